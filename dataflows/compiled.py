"""Have every kernel compiled: those of the operators, of the reader and of the writer of Kafka.

`python -m dataflows.compiled` does it, with an installation and at the build of the image, so that
no start has to.
"""

from operators.compiled import compile_kernels
from sinks.kafka_columns import compile_produce
from sources.librdkafka import compile_fetch

__all__ = ["main"]


def main() -> None:
    """Compile what is not compiled yet."""
    compile_kernels()
    compile_fetch()
    compile_produce()


if __name__ == "__main__":
    main()
