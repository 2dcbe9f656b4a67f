# register on CPUs:  docker build -t register:0.2.0 .
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" register:0.2.0 align fixed.tif moving.tif -o aligned
FROM python:3.13-slim AS build
# any compiler of the base image's Debian
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir -c constraints.txt build hatchling && python -m build --no-isolation --wheel --outdir /wheels .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="register" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# OpenMP for the compiled step
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
COPY constraints.txt /
# the CPU build of PyTorch, and the readers of slides, microscopes and tables
RUN wheel=$(ls /wheels/*.whl) && \
    pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c /constraints.txt \
        "${wheel}[export,slides,microscopes,movies,tables,spatial,astronomy,dask]" && \
    test "$(register --version)" = "register 0.2.0"
WORKDIR /data
ENTRYPOINT ["register"]
CMD ["--help"]
