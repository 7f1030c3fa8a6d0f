# MLflow's and Prefect's servers, in the versions that everything else is tested with.
FROM python:3.11.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PREFECT_SERVER_ANALYTICS_ENABLED=false
COPY infra/servers.lock /tmp/
RUN pip install --no-deps --require-hashes -r /tmp/servers.lock \
 && useradd --uid 1000 --create-home visionline
USER 1000:1000
WORKDIR /home/visionline
