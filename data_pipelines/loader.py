"""tf.data around pure items: parallel decoding, prefetch, and this host's share of each batch."""

from collections.abc import Callable, Generator

import numpy as np

from data_pipelines.clips.alternating import Alternating
from data_pipelines.clips.examples import EvalExamples, Item, TrainExamples
from data_pipelines.quiet_tensorflow import tensorflow

PREFETCH_BATCHES = 2


def train_batches(
    examples: TrainExamples | Alternating,
    first_step: int,
    last_step: int,
    *,
    workers: int,
    process: int = 0,
    processes: int = 1,
) -> Generator[Item, None, None]:
    """This process's rows of the batches of steps first_step .. last_step - 1.

    The global batch of a step is the same for any number of processes; process i reads the i-th
    equal part of its rows and decodes nothing else.

    Args:
      examples: where items come from.
      first_step: a resumed run passes the step it resumes at.
      last_step: one past the last.
      workers: decoding threads.
      process: number of this process.
      processes: their count; must divide `examples.videos_per_batch`.

    Yields:
      The arrays of `examples.spec`, [b, ..], and example [b] int64, where
      b = videos_per_batch * repeats / processes.

    Raises:
      ValueError: if the batch does not divide among the processes.
      VideoError: see `TrainExamples.item`.
    """
    if examples.videos_per_batch % processes:
        raise ValueError(
            f"{examples.videos_per_batch} videos a batch do not divide among {processes} processes"
        )
    rows = examples.videos_per_batch // processes
    first_row = process * rows

    def position(local: int) -> int:
        step, row = divmod(local, rows)
        return step * examples.videos_per_batch + first_row + row

    stream = _stream(
        lambda local: examples.item(position(local)),
        first_step * rows,
        last_step * rows,
        rows,
        workers,
    )
    for batch in stream:  # [videos, repeats, ..] -> [clips, ..]
        yield {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}


def eval_batches(
    examples: EvalExamples,
    videos_per_batch: int,
    *,
    workers: int,
    process: int = 0,
    processes: int = 1,
    first_batch: int = 0,
) -> Generator[Item, None, None]:
    """This process's rows of batches that hold every video of the catalog exactly once.

    All processes yield the same number of full batches; rows of weight 0 fill the last.

    Args:
      examples: where items come from.
      videos_per_batch: over all processes; must be a multiple of `processes`.
      workers: decoding threads.
      process: number of this process.
      processes: their count.
      first_batch: a resumed evaluation passes the number of batches it has had.

    Yields:
      The arrays of `examples.spec`, those of clips [b, views, ..], the others [b, ..];
      weight [b] float32, readable [b] bool, example [b] int64.

    Raises:
      ValueError: if the batch does not divide among the processes.
    """
    if videos_per_batch % processes:
        raise ValueError(
            f"eval.batch_size={videos_per_batch} does not divide among {processes} processes"
        )
    rows = videos_per_batch // processes
    batches = -(-len(examples.catalog) // videos_per_batch)

    def index(local: int) -> int:
        batch, row = divmod(local, rows)
        return batch * videos_per_batch + process * rows + row

    first, last = first_batch * rows, batches * rows
    yield from _stream(lambda local: examples.item(index(local)), first, last, rows, workers)


def eval_rows(videos: int, videos_per_batch: int, process: int = 0, processes: int = 1) -> int:
    """How many of the videos `eval_batches` gives to a process."""
    rows = videos_per_batch // processes
    starts = range(process * rows, videos, videos_per_batch)
    return sum(min(rows, videos - start) for start in starts)


def _stream(
    item: Callable[[int], Item], first: int, last: int, rows: int, workers: int
) -> Generator[Item, None, None]:
    """Batches of `rows` items first .. last - 1, in order, decoded by parallel threads."""
    tf = tensorflow()  # only where a pipeline is built (DESIGN, rule 6)
    if first >= last:
        return
    template = item(first)  # shapes and dtypes
    made = {first: template}  # not to be decoded, and counted if bad, a second time
    names = sorted(template)
    failures: dict[int, BaseException] = {}

    def arrays(position: np.ndarray) -> list[np.ndarray]:
        try:
            result = made.pop(int(position), None) or item(int(position))
        except BaseException as error:
            failures[int(position)] = error  # TensorFlow would print it, and hand on only its text
            result = template
        return [result[name] for name in names]

    def load(position: tf.Tensor) -> dict[str, tf.Tensor]:
        types = [template[name].dtype for name in names]
        values = tf.numpy_function(arrays, [position], types, stateful=False)
        for name, value in zip(names, values, strict=True):
            value.set_shape(template[name].shape)
        return dict(zip(names, values, strict=True))

    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    options.deterministic = True
    dataset = tf.data.Dataset.range(first, last).map(load, num_parallel_calls=workers)
    dataset = dataset.batch(rows, drop_remainder=True).prefetch(PREFETCH_BATCHES)
    batches = dataset.with_options(options).as_numpy_iterator()
    try:
        for end, batch in zip(range(first + rows, last + 1, rows), batches, strict=True):
            for position in range(end - rows, end):
                if position in failures:
                    raise failures[position]
            yield batch
    finally:
        # Cancels and joins the decoding threads now: threads that still ask for the interpreter
        # while it shuts down would hang the process.
        del batches, dataset
