"""All settings of a run: every key, its type, its default and its meaning.

Each class is frozen and rejects unknown keys. The docstring under a field is its documentation, which `seq2seq config
reference` prints.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import Self

from seq2seq.config.base import Probability, Settings, Strings
from seq2seq.config.model import ModelSettings, TransformerSettings
from seq2seq.config.sources import Source
from seq2seq.languages import language_of


def _percentage(value: Any) -> Any:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    return float(match[1]) / 100 if match else value


Share = Annotated[float, BeforeValidator(_percentage), Field(ge=0.0, le=1.0)]
"""A share, also as a percentage: 0.01 or `1 %`."""


DecodingPrecision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
KeptKind = Literal["unseen", "lines", "urls", "emails", "placeholders", "tags", "numbers"]
"""Kinds of text that a translation keeps as it is."""


class CleaningSettings(Settings):
    """Filters of training pairs; both sides of a pair stay or go together."""

    min_tokens: int = Field(1, ge=1)
    """Shortest side kept, in subword tokens."""
    max_tokens: int = Field(256, ge=1, le=2**20)
    """Longest side kept, in subword tokens without the end mark."""
    max_ratio: float = Field(9.0, gt=1.0)
    """Largest ratio of the two sides' token counts; pairs with at most 10 tokens on the longer side are exempt."""
    drop_duplicates: bool = True
    """Keep the first of several equal pairs."""
    max_unreadable: Share = 0.01
    """Largest share of the rows of a table (or units of a translation memory) that may be unreadable, such as `1 %`;
    they are dropped and counted. Three rows are always tolerated, unless this is 0."""
    drop_test_overlap: bool = False
    """Drop training pairs that share their source or target text with a validation or test pair; by the source alone if
    targets are labels, so that more than half of the corpus would go."""


AUGMENT_RATES = {"titlecase": 0.02, "lowercase": 0.05, "no_full_stop": 0.05, "typos": 0.02}
"""Rates of `data.augment: true`."""


def augment_rates(value: Any) -> Any:
    """The rates that `data.augment: true` or `false` stands for; any other value as it is."""
    return {kind: rate * value for kind, rate in AUGMENT_RATES.items()} if isinstance(value, bool) else value


class AugmentSettings(Settings):
    """Noisy copies of training pairs, so that text as people type it is translated like other text. Rates are copies
    per pair in an epoch, others in each; `data.augment: true` takes 0.05 of lowercase and no_full_stop, and 0.02 of
    titlecase and typos. URLs, placeholders, tags and target tags stay as they are."""

    model_config = ConfigDict(json_schema_extra={"type": ["object", "boolean"]})

    uppercase: Probability = 0.0
    """BOTH SIDES IN CAPITALS; of use only without `decoding.truecase`."""
    titlecase: Probability = 0.0
    """The Source With Initial Capitals, as in headings; the target stays as it is."""
    lowercase: Probability = 0.0
    """the source in small letters; the target stays as it is."""
    no_full_stop: Probability = 0.0
    """Both sides without their full stop."""
    typos: Probability = 0.0
    """Typing errors in about one of ten words of the source: letters swapped, left out, doubled or replaced."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return augment_rates(value)


class DataSettings(Settings):
    """The corpora, their languages and their cleaning."""

    seed: int = Field(1, ge=0, le=2**63 - 1)
    """Seed of the held-out pairs and of the vocabulary. Runs that differ only in `seed` have the same data, and can be
    compared or used as an ensemble."""
    source_language: str = "src"
    """Language code of the source side, as in ISO 639-1; used in reports."""
    target_language: str = "tgt"
    """Language code of the target side; chooses the tokenizer of BLEU, with the script of the text."""
    train: tuple[Source, ...] = ()
    """Training corpora, joined in this order."""
    valid: tuple[Source, ...] = ()
    """Validation corpora: never cleaned, never trained on; they choose the best model."""
    test: tuple[Source, ...] = ()
    """Test corpora: never cleaned; scored once, at the end."""
    temperature: float = Field(1.0, ge=1.0)
    """Evens out corpora of different size: each is drawn from in proportion to weight * pairs^(1/temperature); 1 takes
    them as they are, 5 is usual for many languages (Arivazhagan et al. 2019)."""
    holdout: int = Field(0, ge=0, le=10**9)
    """Pairs taken out of the cleaned training corpora for validation where `valid` is empty, and as many for the test
    where `test` is empty; drawn with `data.seed`. Other pairs with the source text of one of them are left out, too."""
    cleaning: CleaningSettings = CleaningSettings()
    augment: AugmentSettings = AugmentSettings()
    errors: Literal["strict", "replace"] = "strict"
    """Treatment of bytes that are not UTF-8: stop and name the place, or replace them by U+FFFD."""
    num_processes: int = Field(0, ge=0, le=1024)
    """Processes that prepare the data; 0 takes every core."""

    @model_validator(mode="after")
    def _tags_are_for_training(self) -> Self:
        for split in ("valid", "test"):
            if any(source.tag for source in getattr(self, split)):
                raise ValueError(f"tag marks training corpora; leave it out of data.{split}")
        return self

    @property
    def languages(self) -> tuple[str, str]:
        """ISO 639-1 codes of source and target; empty where they are none."""
        return language_of(self.source_language), language_of(self.target_language)


class TokenizerSettings(Settings):
    """The tokenizer, trained on the cleaned training corpus unless a model file is given."""

    kind: Literal["unigram", "bpe", "char", "word", "wordpunct"] = "unigram"
    """`unigram` and `bpe`: sentencepiece subwords with byte fallback; `char` splits into characters; `word` splits at
    spaces, `wordpunct` into words and punctuation marks."""
    vocabulary_size: int = Field(8000, ge=8, le=2**24)
    """Entries including the four special tokens; shrunk with a notice where the corpus cannot fill it."""
    joint: bool = True
    """One vocabulary for both sides; needed for three-way tied embeddings."""
    normalization: Literal["nfc", "nfkc", "identity"] = "nfc"
    """Normalisation of both sides before tokenizing. `nfc`: composed and decomposed accents are the same letter, and
    any run of spaces, tabs or no-break spaces is one space; `nfkc`: Unicode NFKC; `identity`: none, so that the
    round trip is lossless. Texts to score against stay as they are."""
    character_coverage: Annotated[float, Field(ge=0.98, le=1.0)] | Literal["auto"] = "auto"
    """`unigram` and `bpe`: share of the text whose characters get entries of their own; the others are spelled in
    bytes. `auto` gives one to each, or, where the vocabulary is too small for all, three quarters of it to the
    most frequent ones."""
    sampling: Probability = 0.0
    """Another segmentation of the training text in every epoch: `bpe`, the share of merges dropped (Provilkov et al.
    2020); `unigram`, drawn with the model's probabilities flattened to the power (1 - sampling) / (10 sqrt(sampling))
    (Kudo 2018). 0.1 is usual, 0 is off."""
    sample_size: int = Field(1_000_000, ge=100, le=2**31 - 1)
    """Sentences that the tokenizer is trained on, drawn evenly from a larger corpus."""
    min_frequency: int = Field(1, ge=1)
    """`word` and `char`: rarer tokens become `<unk>`."""
    extend: bool = False
    """Fine-tuning (`training.init_from`): add entries to the vocabulary of that run for the characters, subwords or
    words of the new training text that it does not know. Their rows of the embeddings are drawn as for a new model; all
    other weights, and the tokens of known text, stay as they are."""
    source_model: str | None = None
    """An existing sentencepiece `.model` for the source side (for both sides where `joint`); none is trained then."""
    target_model: str | None = None
    """An existing sentencepiece `.model` for the target side."""

    @model_validator(mode="after")
    def _models_fit(self) -> Self:
        if self.target_model and self.joint:
            raise ValueError("target_model with joint: true; set joint: false, or give source_model alone")
        if not self.joint and bool(self.source_model) != bool(self.target_model):
            raise ValueError("source_model and target_model belong together where joint is false")
        return self


class OptimizerSettings(Settings):
    """The optimizer and its hyperparameters."""

    kind: Literal["adamw", "schedule_free", "muon", "adafactor"] = "adamw"
    """`adamw` (Loshchilov and Hutter 2019; Adam where `weight_decay` is 0); `schedule_free` AdamW (Defazio et al. 2024,
    with a `constant` schedule); `muon` (Jordan et al. 2024) for the matrices inside, AdamW for embeddings and
    vectors; `adafactor` (Shazeer and Stern 2018), whose state is far smaller."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    betas: tuple[Probability, Probability] = (0.9, 0.98)
    """Decay of the running mean and of the running square."""
    epsilon: float = Field(1e-9, gt=0)
    """Added to the root of the running square."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled decay of matrices and embeddings; vectors (biases, norms) are exempt."""


class ScheduleSettings(Settings):
    """The learning rate as a pure function of the step."""

    kind: Literal["inverse_sqrt", "cosine", "wsd", "constant"] = "inverse_sqrt"
    """After the warm-up: inverse square root (Vaswani et al. 2017), cosine to `final_ratio`, warm-up-stable-decay, or
    flat."""
    warmup_steps: int = Field(1000, ge=0)
    """Updates of linear warm-up from 0 to the peak; for `cosine` and `wsd` a tenth of `max_steps` where that is no
    larger, unless one file sets both."""
    decay_fraction: float = Field(0.4, gt=0, le=1)
    """`wsd`: the last share of `max_steps` over which the rate falls linearly."""
    final_ratio: float = Field(0.02, ge=0, le=1)
    """`cosine` and `wsd`: the last learning rate over the peak."""


class TrainingSettings(Settings):
    """The training loop: batches, steps, validation, early stopping, checkpoints."""

    batch_size: Annotated[int, Field(ge=1, le=100_000_000)] | Literal["auto"] = 4096
    """Size of one batch in `batch_type`, over all devices; no batch is larger, padding included. `auto` tries what fits
    into memory and keeps the size with the run."""
    batch_type: Literal["tokens", "sentences"] = "tokens"
    """`tokens` counts the padded tokens of the longer side."""
    accumulation_steps: int = Field(1, ge=1, le=1_000_000)
    """Batches per update; the update equals that of one large batch."""
    max_steps: int = Field(20_000, ge=1, le=10**12)
    """Maximum number of updates; the schedule ends here."""
    max_epochs: int | None = Field(None, ge=1)
    """Maximum number of passes over the corpus; schedule and validations are fitted to it, as to `max_minutes`."""
    max_minutes: float | None = Field(None, gt=0, le=10_000_000)
    """Maximum minutes of training, resumed runs counted together; the last validation follows. Where fewer than
    `max_steps` fit, the warm-up takes a quarter of them at most, and the schedule ends with them."""
    budget_minutes: float | None = Field(None, gt=0, le=10_000_000)
    """Minutes for the whole command: preparation, training, averaging and the test score. Timed steps before the first
    update decide once how many steps fit, `max_steps` at most, and with them warm-up, schedule and validations; the run
    keeps them in estimate.json. A machine that becomes slower ends the run early, in time."""
    validate_every: int = Field(500, ge=1)
    """Updates between validations, each of which saves a checkpoint."""
    log_every: int = Field(50, ge=1)
    """Updates between lines of metrics.jsonl and of the tracker."""
    tracker: Literal["tensorboard", "wandb", "trackio", "none"] = "tensorboard"
    """Where curves go beside metrics.jsonl: `wandb` and `trackio` must be installed, and take the project from
    WANDB_PROJECT or TRACKIO_PROJECT."""
    patience: int | None = Field(10, ge=1)
    """Validations without a new best before stopping, after the warm-up and before `wsd` lowers the rate; null never
    stops early."""
    metric: Literal["auto", "bleu", "chrf", "loss"] = "auto"
    """Validation metric that selects the best model; of equal scores, the one with the lower loss. `auto` takes BLEU
    where at least half of the validation references have four tokens, without which BLEU is 0; otherwise chrF; the loss
    where they are single characters."""
    validation_beam_size: int = Field(1, ge=1)
    """Beam size of the validation BLEU or chrF; 1 is greedy and fast."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Exponential moving average of the weights, which is validated and kept instead of them; 0.999 is usual."""
    average_checkpoints: int = Field(5, ge=1)
    """The last N checkpoints are averaged at the end, and win if their validation metric is better; 1 does not
    average."""
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    label_smoothing: Probability = 0.1
    """Share of the target probability spread over the whole vocabulary (Szegedy et al. 2016)."""
    r_drop: float = Field(0.0, ge=0)
    """R-Drop (Liang et al. 2021): every batch twice with other dropout, and this weight on how far the two outputs
    differ (symmetric Kullback-Leibler divergence); 5 is usual for small corpora, 0 is off."""
    simcut: float = Field(0.0, ge=0)
    """SimCut (Gao et al. 2022): every batch a second time with tokens cut off, and this weight on how far its output
    differs from the first one's (Kullback-Leibler divergence); 3 is usual, 0 is off."""
    cutoff: Probability = 0.05
    """Share of the tokens whose embeddings are zeroed in SimCut's second pass."""
    init_from: str | None = Field(None, min_length=1)
    """Run directory or checkpoint whose weights and tokenizer training begins with (fine-tuning). Settings of `model`
    and `tokenizer` that are not given are those of that run; those of `training` come from a recipe for the size of the
    new corpus, which is said, and kept with its reasons in the run's config."""
    replay: Probability = 0.0
    """Share of the pairs of an epoch that come from the training corpus of the run in `init_from`, so that it is not
    forgotten; off, with a warning, where that corpus is gone. The recipe of `init_from` takes 0.5."""
    freeze: Strings = ()
    """Parameters that stay as they are, by patterns such as `encoder.*` or `*embedding*`."""
    max_gradient_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; null does not clip."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` takes bf16 on a GPU that has it, and on a CPU where a short trial shows that it multiplies matrices faster
    in bf16; fp32 elsewhere. It says why. fp16 needs CUDA."""
    activation_checkpointing: bool = False
    """Transformer: keep no activations inside layers but compute them again going backward (Chen et al. 2016): less
    memory, about a third more time."""
    num_workers: int = Field(0, ge=0, le=1024)
    """Processes that load batches ahead of the step; 0 loads them in the training process."""


class DecodingSettings(Settings):
    """Search for translations: beam, lengths, batches."""

    beam_size: int = Field(5, ge=1)
    """Hypotheses kept at each position; 1 is greedy."""
    length_penalty: float = Field(1.0, ge=0)
    """Alpha in score = log P(target | source) / length^alpha, end mark counted in length; 0 prefers short output."""
    max_length_ratio: float = Field(2.0, gt=0)
    """Longest output: max_length_ratio * source tokens + max_length_offset."""
    max_length_offset: int = Field(20, ge=1)
    """See `max_length_ratio`."""
    min_length_ratio: float = Field(0.0, ge=0)
    """Shortest output: min_length_ratio * source tokens."""
    max_source_tokens: int = Field(256, ge=8, le=2**20)
    """A longer line is translated in pieces, cut at sentence ends or spaces, and joined again."""
    batch_tokens: int = Field(4096, ge=1)
    """Padded source tokens decoded at once; the result does not depend on it."""
    batch_sentences: int = Field(256, ge=1)
    """Maximum number of sentences decoded at once; the result does not depend on it."""
    replace_unknown: bool = False
    """With words or characters as vocabulary: replace `<unk>` by the source word with most attention (Luong et al.
    2015)."""
    keep: tuple[KeptKind, ...] = ("unseen",)
    """Text that stays as it is, some of: `urls`, `emails`, `placeholders` (`{name}`, `%s`), `tags` (`<b>`), `numbers`
    of two digits and more, `lines` without a letter. `unseen` is lines without a letter, and of the other kinds what
    the vocabulary can only spell; [] keeps nothing by force."""
    truecase: bool = True
    """Translate a line IN CAPITALS or With Initial Capitals in its usual letter case, by the vocabulary; the output of
    one in capitals is put into capitals. A model that knows nothing but capitals reads them as they are."""
    precision: DecodingPrecision = "auto"
    """Numbers that the model computes with while it translates. `auto` is fp32: scores are the same on every machine.
    bf16 is within 0.1 BLEU; on a CPU it is slower than fp32 wherever loops are compiled. int8, for CPUs with VNNI, is
    faster, and nearly as good. Validations and the test score of a training are computed in fp32."""
    workers: int = Field(0, ge=0, le=1024)
    """Processes of one thread that translate side by side on a CPU; 0 takes one for each core where the text is long
    enough."""


DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
"""Names of devices, which this machine need not have."""


class Config(Settings):
    """One experiment. Every key has a default except the training data."""

    name: str | None = None
    """Name of the run; by default the name of the config file."""
    run_directory: str | None = None
    """Run directory; by default `runs/NAME`."""
    seed: int = Field(1, ge=0, le=2**63 - 1)
    """Seed of weights, data order, dropout and sampling."""
    device: str = Field("auto", pattern=DEVICE)
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    devices: int = Field(0, ge=0, le=1024)
    """Processes that share every batch: one GPU each, or one CPU thread each. 0 takes every GPU of this machine, and on
    a CPU what is fastest; at most four for each core."""
    threads: int = Field(0, ge=0, le=1024)
    """CPU threads of torch; 0 takes every core."""
    data: DataSettings = DataSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = TransformerSettings()
    training: TrainingSettings = TrainingSettings()
    decoding: DecodingSettings = DecodingSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.model.tied_embeddings == "all" and not self.tokenizer.joint:
            raise ValueError(
                "model.tied_embeddings: all needs one vocabulary; set tokenizer.joint: true or tied_embeddings: target"
            )
        if self.training.r_drop and self.training.simcut:
            raise ValueError("training.r_drop and training.simcut exclude each other; set one of them to 0")
        if self.tokenizer.extend and not self.training.init_from:
            raise ValueError("tokenizer.extend adds to the vocabulary of a run; name it by training.init_from=RUN")
        if self.training.replay and not self.training.init_from:
            raise ValueError("training.replay repeats the corpus of a run; name it by training.init_from=RUN")
        if self.training.activation_checkpointing and self.model.kind != "transformer":
            raise ValueError("training.activation_checkpointing is for model.kind: transformer; set it to false")
        if self.decoding.replace_unknown and self.tokenizer.kind in ("unigram", "bpe"):
            raise ValueError(
                f"decoding.replace_unknown is for vocabularies of words or characters, not tokenizer.kind: "
                f"{self.tokenizer.kind}; set decoding.replace_unknown: false"
            )
        if self.decoding.replace_unknown and self.model.kind == "rnn" and self.model.attention == "none":
            raise ValueError("decoding.replace_unknown needs attention; set decoding.replace_unknown: false")
        schedule = self.training.schedule
        if schedule.kind in ("cosine", "wsd") and schedule.warmup_steps >= self.training.max_steps:
            raise ValueError(
                f"training.schedule.warmup_steps ({schedule.warmup_steps}) must be below "
                f"training.max_steps ({self.training.max_steps}); training.schedule.warmup_steps="
                f"{self.training.max_steps // 10}"
            )
        return self
