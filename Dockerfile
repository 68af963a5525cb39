# Two steps: one builds the locked environment, the other carries it, without compilers and not as root.
#
#   docker build -t convflow .
#   me="--user $(id -u):$(id -g) -e HOME=/tmp"
#   docker run --rm $me -v "$PWD":/project convflow               the main job on the project in this folder
#   docker run --rm $me --gpus all -v "$PWD":/project convflow    the same on a GPU
#   docker run --rm $me -p 5000:5000 -v "$PWD":/project convflow mlflow server --host 0.0.0.0 --port 5000 \
#       --backend-store-uri sqlite:////project/mlflow.db --artifacts-destination /project/mlartifacts

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/convflow
COPY requirements.lock /tmp/
RUN /opt/convflow/bin/pip install --no-deps -r /tmp/requirements.lock
COPY pyproject.toml README.md LICENSE /tmp/convflow/
COPY src /tmp/convflow/src
RUN /opt/convflow/bin/pip install --no-deps --no-build-isolation /tmp/convflow

FROM python:3.12-slim-bookworm
# git: DVC and the lineage of a run need it; libgomp1: torch and scikit-learn compute with it
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 convflow \
    && git config --system --add safe.directory /project
COPY --from=build /opt/convflow /opt/convflow
# the code that runs is the code DVC hashes: the mounted project's
ENV PATH=/opt/convflow/bin:$PATH PYTHONPATH=/project/src PYTHONUNBUFFERED=1
USER convflow
WORKDIR /project
ENTRYPOINT ["convflow", "environment", "--"]
CMD ["convflow", "repro"]
