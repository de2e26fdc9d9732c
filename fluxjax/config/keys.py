"""The closed set of config keys, with their defaults and meaning, and the checks before a run."""

import importlib
from collections.abc import Sequence

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder

from fluxjax.checkpoints.inference import read_architecture
from fluxjax.checkpoints.starting import has_rules, rule_of
from fluxjax.config.lengths import check_lengths
from fluxjax.config.names import all_keys, unknown_key
from fluxjax.config.ranges import check_ranges, get
from fluxjax.models.registry import model_fields
from fluxjax.tasks import create_task, task_keys
from fluxjax.tasks.base import Task


def base_config(model: str = "fluxvit_ti14", task: str = "classify") -> ConfigDict:
    """Every key that a config may set. Files under configs/ start from it.

    `config.model` has the fields of the class that `model` is a size of; None leaves a field as the
    named size has it. A task that has keys of its own has them in `config.<task>`.

    Model, sampling grids, budgets and paths differ between recipes; the values here are those of
    the small demo where a recipe has no better opinion.
    """
    config = ConfigDict()
    config.task = task  # classify_features: the frozen tower runs once a clip and view
    config.imports = ()  # modules that register models, tasks and evaluators of your own
    # flux_single: one budget, no alignment; cross_entropy: for models without heads for budgets
    config.method = "flux_multi"
    config.seed = 0  # of weights, order of examples and every draw
    # Batches read; optimizer updates are fewer with accumulation. None: by epochs.
    config.total_steps = FieldReference(100, field_type=int)
    # Times that every training video is read, in the place of total_steps, which is then None.
    config.epochs = placeholder(float)
    config.batch_size = 16  # clips a step, over all devices and hosts
    config.log_every = 20  # steps
    config.wandb = ""  # project of Weights & Biases that is told as well; "": none
    config.max_skipped_steps = 0  # non-finite steps in a row that are skipped before a run stops
    config.num_classes = placeholder(int)  # None: as many as the training data names
    # Run or inference checkpoint to start from, also hf:OWNER/REPO; None: random weights.
    config.init_from = placeholder(str)
    # A whole config, trained first; this run then starts from its model. Not used with init_from.
    config.pretrain = placeholder(ConfigDict)
    config.pretrain_for = "init_from"  # or distill.teacher: the key that takes its model

    config.dry_run = False  # True: print shardings, memory, FLOPs and compile time, and end
    # TPU slice to compile for without having it, such as v5e:4x4; None: the devices that are here.
    config.dry_run_topology = placeholder(str)
    config.profile_steps = ()  # (first, last): a trace of these steps for TensorBoard
    config.compile_cache = placeholder(str)  # folder that keeps compiled programs between runs

    config.mesh = ConfigDict()  # devices along each axis; one of them None: what is left
    config.mesh.data = placeholder(int)  # copies of the model; each sees other clips
    config.mesh.fsdp = 1  # devices that share parameters and optimizer state, and cut the batch
    config.mesh.tensor = 1  # devices that share the products inside a layer

    config.model = _model_config(model)

    config.budgets = (128, 64, 32)  # tokens, largest first; head i is trained at budget i
    # For flux_single, None: the largest budget; for cross_entropy, None: all tokens.
    config.single_budget = placeholder(int)

    config.grids = ConfigDict()  # training draws uniformly from frames x resolutions that fit
    config.grids.frames = (4, 6, 8)  # sampled of a video
    config.grids.resolutions = (56, 70)  # pixels, multiples of the patch
    config.grids.min_tokens = 64  # grids with fewer are left out
    config.grids.max_tokens = 200  # grids with more are left out
    config.grids.per_clip = False  # True: every clip its own grid; cannot be mixed

    config.data = ConfigDict()
    # demo[:easy|:hard], tfds:NAME, a list file, mix:LIST of several data sets, a folder of class
    # folders, tar files or dummy
    config.data.train = "demo:easy"
    config.data.images = ""  # a list as data.train; batches of videos and of images take turns
    config.data.test = "demo:easy"  # what is evaluated; as data.train; "": nothing is
    config.data.train_split = "train"  # of TFDS sources
    config.data.test_split = "test"  # likewise
    config.data.dir = placeholder(str)  # cache of the demo corpus and TFDS; None: ~/.cache/fluxjax
    config.data.root = ""  # joined to relative paths of list files
    config.data.separator = placeholder(str)  # of list files; None: white space
    config.data.class_names = ()  # in their order; (): classes.txt beside the list, or sorted
    config.data.classes = ()  # names or numbers of the classes to keep, renumbered; () is all
    # Which frames: sparse, ssv2, uniform, ffn_2d, tsm_dense, dense:STRIDE, jittered:STRIDE,
    # window:STRIDE or time:SECONDS (data_pipelines.clips.sampling).
    config.data.sampling = "sparse"
    config.data.square_pixels = False  # True: non-square pixels in the shape that players show
    config.data.frames = placeholder(str)  # lists name folders of such images, e.g. {:05d}.jpg
    config.data.paragraphs = False  # True: captions of a video are sentences of one text
    config.data.first_seconds = placeholder(float)  # of a video that are used; None: all
    # multi_scale: TSN's 13 places; short_side:LOW:HIGH: a square of that share of the short side
    config.data.crop = "random_resized"
    config.data.crop_scale = (0.08, 1.0)  # share of the picture's area; of crop random_resized
    config.data.crop_ratio = (3 / 4, 4 / 3)  # width / height; likewise
    config.data.flip = True  # never where direction is the label
    config.data.unflipped = ()  # sources of a mix:LIST that are never mirrored, e.g. ("ssv2",)
    config.data.rand_augment = placeholder(str)  # e.g. rand-m7-n4-mstd0.5-inc1; None: off
    config.data.repeats = 1  # clips cut from one decoded video (repeated augmentation)
    config.data.workers = 2  # decoding threads
    # Decoded frames are kept and not decoded again: memory, or a folder; "": none are.
    config.data.cache = ""
    config.data.cache_gib = 4.0  # GiB that it may take; of memory, in each process
    config.data.decode_seconds = 60.0  # a video that takes longer counts as unreadable
    config.data.manifests = ()  # of data_pipelines.doctor: videos bad there are not even tried
    config.data.max_bad_share = 0.05  # of unreadable videos, above which a run stops

    config.features = ConfigDict()  # of task classify_features: the frozen tower's, kept on disk
    config.features.dir = placeholder(str)  # folder where they are kept
    config.features.clips = 1  # temporal views of a training video, one drawn an epoch
    config.features.crops = 1  # spatial views

    config.erasing = ConfigDict()  # random erasing
    config.erasing.prob = 0.0  # of a clip

    config.jitter = ConfigDict()  # colour jitter on the device; RandAugment has its own
    for field in ("brightness", "contrast", "saturation", "hue"):
        config.jitter[field] = 0.0  # e.g. 0.4; the largest change, see fluxjax.augment.photometric

    config.mixing = ConfigDict()  # mixup and cutmix
    config.mixing.prob = 0.0  # of mixing a batch
    config.mixing.mixup_alpha = 0.8  # of the beta distribution of shares; 0: never mixup
    config.mixing.cutmix_alpha = 1.0  # likewise; 0: never cutmix
    config.mixing.switch_prob = 0.5  # of cutmix where both are on
    config.mixing.smoothing = 0.0  # label smoothing

    config.optim = ConfigDict()  # by default AdamW: linear warm-up, then a half cosine
    config.optim.name = "adamw"  # lion; sgd: with momentum, the decay a part of the gradient
    # steps: lr times decay_factor at each of decay_steps; slowfast_cosine: warm-up as PySlowFast's,
    # which ends one step later
    config.optim.schedule = "cosine"
    config.optim.lr = 1e-3  # per 256 clips an update, like the other rates
    config.optim.end_lr = 1e-6  # of the cosine
    config.optim.warmup_lr = 1e-6  # where the warm-up starts
    # Batches, part of total_steps; None: a tenth of them.
    config.optim.warmup_steps = FieldReference(20, field_type=int)
    config.optim.decay_steps = ()  # batches, of schedule steps
    config.optim.decay_factor = 0.1  # of the rate at each of them
    config.optim.b1 = 0.9  # decay of the mean of gradients
    config.optim.b2 = 0.999  # decay of the mean of their squares
    config.optim.eps = 1e-8  # added to the root of the latter
    config.optim.momentum = 0.9  # of sgd
    config.optim.nesterov = False  # of sgd: looks ahead by the momentum
    config.optim.weight_decay = 0.05  # of matrices; not of vectors and position tables
    config.optim.decay_affine = False  # True: as the reference, also the LPE and GPE scales
    config.optim.decay_all = False  # True: every trained parameter, as EVL
    config.optim.layer_decay = 1.0  # factor on the learning rate from a layer to the one below it
    config.optim.head_lr_scale = 1.0  # factor on the learning rate of classifiers, such as TSM's 5
    config.optim.head_bias_lr_scale = 1.0  # likewise of their biases, such as TSM's 10
    config.optim.clip_norm = placeholder(float)  # largest norm of the gradient; None: any
    config.optim.accumulate_steps = 1  # steps whose mean gradient makes one optimizer update
    config.optim.ema = placeholder(float)  # decay of the parameters' moving average, e.g. 0.9999
    config.optim.ema_warmup = True  # from a decay of 0.1 on, so that short runs forget their start

    config.eval = ConfigDict()
    config.eval.grids = ("8x56",)  # FRAMESxPIXELS
    config.eval.budgets = (128, 64, 32)  # tokens kept, of each grid that has as many
    config.eval.clips = 1  # temporal views a video
    config.eval.crops = 1  # spatial views a video
    config.eval.crop_share = 1.0  # side of a view / short side, e.g. 224 / 256
    config.eval.crop_place = "centre"  # of a single crop; start: left or top end; whole: squeezed
    config.eval.batch_size = 16  # videos
    # 0: only after training; None: once an epoch, or ten times a run where that is less often.
    config.eval.every_steps = placeholder(int)
    # What is measured: classification, held_out, knn, linear_probe, reconstructions, retrieval,
    # reranked, multiple_choice, answers, zero_shot, ek100_mir, ek100_cls; (): what the task says.
    config.eval.evaluators = ()
    config.eval.prompts = ("{}",)  # of zero_shot: texts with {} for a class's name, averaged
    config.eval.dual_softmax = placeholder(float)  # of retrieval: temperature; None: plain scores
    config.eval.rerank = 128  # of reranked: the nearest candidates that the matching head orders

    config.probe = ConfigDict()  # of the evaluators knn and linear_probe
    config.probe.videos = 0  # training videos used, evenly spaced; 0: all
    config.probe.k = 20  # nearest neighbours
    config.probe.temperature = 0.07  # of their votes
    config.probe.l2 = 1e-3  # penalty of the linear probe
    config.probe.iterations = 200  # of L-BFGS

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 100  # and at the end
    config.checkpoint.keep = 2  # the newest; older ones are deleted
    # Scalar of the evaluations, e.g. top1_48@8x56; WORKDIR/best keeps the model that is best by it.
    config.checkpoint.best = ""
    own_keys = task_keys(task)
    if own_keys is not None:
        config[task] = own_keys
    return config


def _model_config(name: str) -> ConfigDict:
    config = ConfigDict()
    config.name = name
    config.dtype = "float32"  # of the computation; parameters are float32 always
    # The task sets these.
    for field, kind in model_fields(name).items():
        if field not in ("num_classes", "budgets", "dtype"):
            config[field] = placeholder(kind)
    return config


def import_modules(names: Sequence[str]) -> None:
    """Imports the modules of `config.imports`, which register what they bring.

    Raises:
      ValueError: naming a module that cannot be imported, and why.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(f"config.imports: {name} cannot be imported: {error}") from error


def check_config(config: ConfigDict) -> None:
    """Refuses keys that nothing reads and values that cannot work, before anything is compiled.

    Raises:
      ValueError: naming the key, the value and the remedy.
    """
    import_modules(config.get("imports", ()))
    known = base_config(config.model.name, config.task)
    _check_keys(config, known, known)
    if config.init_from is not None:
        try:
            read_architecture(config.init_from)
        except (OSError, ValueError) as error:
            raise ValueError(f"config.init_from: {error}") from error
    check_ranges(config)
    _require(not config.data.cache or config.features.dir is None, config, "data.cache",
             "must be '' with features.dir: every video is read once")  # fmt: skip
    _require(config.pretrain_for in all_keys(config), config, "pretrain_for",
             "must be a key of this config: init_from, or distill.teacher of its task")  # fmt: skip
    if config.pretrain is not None:
        try:
            check_config(config.pretrain)
        except ValueError as error:
            raise ValueError(f"config.pretrain: {error}") from error
    task = provisional_task(config)
    task.check()
    _check_start(config, task)
    packed = all(clip.slots is not None for clip in task.example().clips)
    _require(packed or not config.data.images, config, "data.images",
             "needs a model that takes clips of any grid, such as flux_clip_s14")  # fmt: skip
    _require(config.batch_size % config.data.repeats == 0, config, "batch_size",
             f"must be a multiple of data.repeats={config.data.repeats}")  # fmt: skip
    check_lengths(config)
    stepped = config.optim.schedule == "steps"
    _require(stepped == bool(config.optim.decay_steps), config, "optim.decay_steps",
             "names batches exactly where optim.schedule='steps'")  # fmt: skip
    _check_augmentation(config)
    if config.mixing.prob:
        _require(not config.grids.per_clip, config, "grids.per_clip",
                 "must be False with mixing.prob > 0: mixup needs one grid a batch")  # fmt: skip
        _require(config.batch_size % 2 == 0, config, "batch_size",
                 "must be even with mixing.prob > 0: clips are mixed in pairs")  # fmt: skip
    _require(bool(config.data.train), config, "data.train",
             "must name videos: demo:easy, tfds:NAME or the path of a list file")  # fmt: skip
    _require(bool(config.eval.grids), config, "eval.grids", "must name a grid, e.g. ('8x224',)")


def provisional_task(config: ConfigDict) -> Task:
    """The config's task before its data are opened, which may say the number of classes."""
    return create_task(ConfigDict(config.to_dict() | {"num_classes": config.num_classes or 2}))


def _check_start(config: ConfigDict, task: Task) -> None:
    """Refuses a model to start from that does not fit, before it is trained or data are read."""
    if not has_rules(task.model):
        return
    if config.init_from is not None:
        rule_of(read_architecture(config.init_from).model, task.model, config.init_from)
    elif config.pretrain is not None and config.pretrain_for == "init_from":
        rule_of(provisional_task(config.pretrain).model, task.model, "config.pretrain")


def _check_augmentation(config: ConfigDict) -> None:
    # Models and steps need no pipeline.
    from data_pipelines.clips.augment import RandAugment
    from data_pipelines.clips.sampling import frame_sampler
    from data_pipelines.clips.training_crops import training_crop

    parsers = {"sampling": frame_sampler, "crop": training_crop, "rand_augment": RandAugment.parse}
    for key, parse in parsers.items():
        value = config.data[key]
        try:
            if value is not None:
                parse(value)
        except ValueError as error:
            raise ValueError(f"config.data.{key}: {error}") from error


def _check_keys(config: ConfigDict, known: ConfigDict, whole: ConfigDict, section="") -> None:
    for key in config:
        if key not in known:
            raise ValueError(unknown_key(f"{section}{key}", whole))
        if isinstance(known[key], ConfigDict):
            _check_keys(config[key], known[key], whole, f"{section}{key}.")
    for key in known:
        if key not in config:
            raise ValueError(
                f"config key config.{section}{key} is missing; start from base_config()"
            )


def _require(condition: bool, config: ConfigDict, key: str, rule: str) -> None:
    if not condition:
        raise ValueError(f"config.{key}={get(config, key)!r} {rule}")
