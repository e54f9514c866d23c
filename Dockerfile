# The connector in a container.
#
#   docker build -t ilp-connector .
#   docker run --rm ilp-connector check-config
#
# Build arguments:
#   BASE_IMAGE    any Debian image with Python 3.11 or newer as `python`. A tag by default, which a local
#                 image can have too; the scripts, and releases, build from the digest that
#                 docker/images.lock pins. The compose files hand BASE_IMAGE on.
#   VERSION, REVISION   for the labels; the version that counts is in connector/version.py
#   CONNECTOR_UI  `skip` leaves the explorer page out (no Node is fetched for the build then)
#   CONNECTOR_COMPILE  `yes` (default): the core is compiled, or the build fails; `no` leaves it
#                 interpreted (no C compiler is fetched then; packets take about twice the time)
#
# What is installed from an index is locked with its hashes: requirements/, made by scripts/lock.
# Plain Dockerfile syntax on purpose: no BuildKit feature is needed, every engine builds it.
ARG BASE_IMAGE=python:3.12-slim

# --- build: the package and what it needs, in a virtual environment of its own
FROM ${BASE_IMAGE} AS build
ARG CONNECTOR_UI=
ARG CONNECTOR_COMPILE=yes
ENV CONNECTOR_UI=${CONNECTOR_UI} CONNECTOR_COMPILE=${CONNECTOR_COMPILE} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# tini becomes process 1 of the image. Headers of a Python in /usr/local are there, of Debian's own
# they are a package.
RUN wanted=; \
    command -v tini-static >/dev/null || wanted=tini; \
    if [ "$CONNECTOR_COMPILE" != no ] && ! command -v cc >/dev/null; then \
      wanted="$wanted gcc libc6-dev $([ "$(command -v python3)" != /usr/bin/python3 ] || echo python3-dev)"; fi; \
    if [ -n "$wanted" ]; then \
      { apt-get update -qq && apt-get install -y -qq --no-install-recommends $wanted >/dev/null \
        && rm -rf /var/lib/apt/lists/*; } \
      || { echo "cannot be installed here: $wanted" >&2; exit 1; }; fi
RUN python -m venv --without-pip /opt/connector && python -m venv --without-pip /opt/build
WORKDIR /source
# What is installed changes less often than our source: these layers are kept between builds.
COPY requirements/*.txt requirements/
RUN python -m pip --python /opt/connector/bin/python install -q --require-hashes -r requirements/runtime.txt
RUN python -m pip --python /opt/build/bin/python install -q --require-hashes -r requirements/build.txt \
 && if [ "$CONNECTOR_UI" != skip ]; then \
      python -m pip --python /opt/build/bin/python install -q --require-hashes -r requirements/page.txt; fi
COPY . .
RUN python -m pip --python /opt/build/bin/python wheel -q --no-deps --no-build-isolation --wheel-dir /wheel . \
 && python -m pip --python /opt/connector/bin/python install -q --no-deps --no-index /wheel/*.whl \
 && if [ "$CONNECTOR_COMPILE" != no ]; then cd / && /opt/connector/bin/python -c \
      'import connector.oer as core; assert core.__file__.endswith(".so"), "the core is not compiled"'; fi \
 && find /opt/connector -name tests -type d -prune -exec rm -rf {} + \
 && find /opt/connector \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' \) -delete \
 && find /opt/connector -path '*tigerbeetle/lib/*' -type f -not -path "*$(uname -m)-linux-gnu*" -delete \
 && if command -v strip >/dev/null; then find /opt/connector -name '*.so' -exec strip --strip-debug {} +; fi \
 && /opt/connector/bin/python -m compileall -q -x pygments/lexers /opt/connector/lib \
 && mkdir /data

# --- system: the base without what a daemon never opens, its library compiled: some bases, the official
# ones of Python among them, leave that to each start, here to each health check too
FROM ${BASE_IMAGE} AS system
RUN rm -rf /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian \
      /usr/share/bash-completion /usr/share/perl* /usr/bin/perl* /usr/lib/*/perl-base /usr/lib/*/gconv \
      /var/cache/* /var/log/* /root/.cache \
 && lib=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
 && rm -rf "$lib/ensurepip" "$lib/idlelib" "$lib/lib2to3" "$lib/pydoc_data" "$lib/test" \
      "$lib/tkinter" "$lib/turtledemo" "$lib"/config-* "$lib"/site-packages/pip* \
      /usr/lib/python3/dist-packages/* \
 && python -m compileall -q -x '/(test|tests|site-packages|dist-packages)/' "$lib" \
 && groupadd --gid 1000 connector \
 && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /data --shell /usr/sbin/nologin connector

# --- the image: one layer of the system, one of the connector
FROM scratch
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="ilp-connector" \
      org.opencontainers.image.description="An Interledger (ILPv4) connector with the accounting built in" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=system / /
COPY --from=build /usr/bin/tini-static /usr/bin/tini
COPY --from=build /opt/connector /opt/connector
COPY --from=build --chown=1000:1000 /data /data
ENV PATH=/opt/connector/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOG_FORMAT=json \
    DATA_DIR=/data \
    BTP_SERVER_HOST=0.0.0.0 \
    CONNECTOR_HEALTHCHECK_WAIT=7 \
    TINI_SUBREAPER=
# A health check waits so many seconds for a node that is starting: so it is healthy when it is ready, not
# at the next check. The other name keeps tini quiet where the engine has an init of its own (--init).
# HTTP stays on loopback until HTTP_HOST says otherwise: then ADMIN_API_KEY is needed too.
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 3000 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["ilp-connector", "healthcheck"]
# Without an init, process 1 ignores a signal that comes before Python handles it, and reaps nothing.
ENTRYPOINT ["tini", "--", "ilp-connector"]
CMD ["run"]
