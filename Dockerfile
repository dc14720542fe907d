# One image for auth, proxy, node and operator: the command says which.
#
#   make image                                    with Docker, or without
#   docker build -t teleport .                    by hand; pip, and npm where runtime/audit/built is missing, reach the web
#   docker run teleport teleport version
#
# BASE has Python 3.11 or later, a shell, and the authorities of the web; it is all that the image has from elsewhere.
# BUILD is the same with pip. Settings for pip and npm come as secrets, which no layer keeps.
ARG BASE=python:3.13-slim
ARG BUILD=${BASE}

# --- What this project depends on: by hashes, from wheels, in an environment without pip -------------------------------
FROM ${BUILD} AS dependencies
COPY requirements/runtime.txt tools/image_slim.py /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=authorities,target=/run/authorities.pem \
    python3 -m venv --without-pip /opt/teleport \
    && python3 -m pip --python /opt/teleport/bin/python install --quiet --no-cache-dir --no-compile --root-user-action=ignore \
        --only-binary=:all: --require-hashes -r /build/runtime.txt \
    && /opt/teleport/bin/python /build/image_slim.py

# --- This project: a wheel, and what it is built with ------------------------------------------------------------------
FROM ${BUILD} AS tools
COPY requirements/build.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=authorities,target=/run/authorities.pem \
    python3 -m venv --without-pip /opt/build \
    && python3 -m pip --python /opt/build/bin/python install --quiet --no-cache-dir --root-user-action=ignore \
        --only-binary=:all: --require-hashes -r /build/build.txt

FROM tools AS application
COPY --from=dependencies /opt/teleport /opt/teleport
COPY pyproject.toml README.md LICENSE /src/
COPY tools/web.py tools/image_root.sh /src/tools/
COPY web /src/web
COPY operator /src/operator
COPY runtime /src/runtime
WORKDIR /src
RUN --mount=type=secret,id=npm,target=/root/.npmrc --mount=type=secret,id=authorities,target=/run/authorities.pem \
    if [ -e /run/authorities.pem ]; then export NODE_EXTRA_CA_CERTS=/run/authorities.pem; fi \
    && /opt/build/bin/python -m hatchling build -t wheel -d /build
RUN sh tools/image_root.sh /build/*.whl /out

FROM ${BASE}
LABEL org.opencontainers.image.title="Teleport for Kubernetes" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dependencies /opt/teleport /opt/teleport
COPY --from=application /out /
ENV PATH=/opt/teleport/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /
USER 65532:65532
CMD ["teleport", "start"]
