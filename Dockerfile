# syntax=docker/dockerfile:1
# The image of all flows, commands and the page: `docker build -t tidemark:0.1.0 .`, then
# `docker run tidemark:0.1.0 candles`. How it is used and how large it is: docs/deploy.md.

FROM python:3.12.12-slim-bookworm AS base

# The packages of the lock file, and of these only what a flow runs.
FROM base AS packages
RUN apt-get update && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /venv
COPY requirements.lock /build/
RUN pip --python /venv/bin/python --disable-pip-version-check install --no-cache-dir --no-compile \
    --require-hashes --requirement /build/requirements.lock
COPY docker/prune /build/
RUN /build/prune /venv

# Bytecode and kernels, made by running what will run. The kernels are for any processor of the
# architecture: those for the builder's own would be compiled again at each start elsewhere.
FROM packages AS compiled
ENV PATH=/venv/bin:$PATH NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/kernels PYTHONPATH=/app
COPY schemas /app/schemas
COPY operators /app/operators
COPY sources /app/sources
COPY sinks /app/sinks
COPY dataflows /app/dataflows
COPY page /app/page
RUN python -m dataflows.compiled
RUN for flow in $(grep -l '^def flow()' /app/dataflows/*.py); do \
      python -c "import bytewax.run, bytewax.recovery, dataflows.$(basename "$flow" .py)" || exit 1; \
    done \
    && python -c "import page.app, page.serving"

FROM base
RUN apt-get update && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tidemark \
    && install --directory --owner 10001 --group 10001 /var/lib/tidemark/recovery /var/lib/tidemark/data
COPY --from=compiled /venv /venv
COPY --from=compiled /kernels /kernels
COPY --from=compiled /app /app
COPY docker /app/docker
COPY docker/entrypoint.sh docker/entrypoint-recovery.sh LICENSE /app/
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CPU_NAME=generic \
    KERNELS=/kernels \
    RECOVERY_ROOT=/var/lib/tidemark/recovery \
    DATA_DIR=/var/lib/tidemark/data
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
# tini is process 1: it passes signals on, also those that come before the flow listens to them.
ENTRYPOINT ["tini", "--", "/app/docker/flow"]
