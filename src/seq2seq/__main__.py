"""`python -m seq2seq` is `seq2seq`."""

from seq2seq.cli import main

if __name__ == "__main__":
    main()
