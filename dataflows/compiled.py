"""Have every kernel compiled: of the operators, of Kafka's reader and writer, of the simulation.

`python -m dataflows.compiled` does it, with an installation and at the build of the image, so that
no start has to.
"""

from operators.compiled import compile_kernels
from sinks.kafka_columns import compile_produce
from sources.librdkafka import compile_fetch
from sources.market import compile_market

__all__ = ["main"]


def main() -> None:
    """Compile what is not compiled yet."""
    compile_kernels()
    compile_fetch()
    compile_produce()
    compile_market()


if __name__ == "__main__":
    main()
