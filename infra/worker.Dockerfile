# What runs flows and stages: the environment of requirements.lock. The code is that of the checkout that is mounted.
FROM python:3.11.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 HOME=/tmp PYTHONPATH=/project
# Debian keeps only the newest patch of a version:
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
 && git config --system --add safe.directory /project
COPY requirements.lock /tmp/
RUN pip install --no-deps --require-hashes -r /tmp/requirements.lock
USER 1000:1000
WORKDIR /project
