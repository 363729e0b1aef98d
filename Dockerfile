# Two stages: the first builds a virtual environment, the second carries only that, and runs as a plain user.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/millrace
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY sensors sensors
COPY pipelines pipelines
RUN /opt/millrace/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[excel]'

FROM python:3.13-slim
ENV PATH=/opt/millrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MILLRACE_PROJECT=/project \
    MILLRACE_HOME=/var/lib/millrace \
    MILLRACE_HOST=0.0.0.0
RUN groupadd --system --gid 10001 millrace \
    && useradd --system --uid 10001 --gid 10001 --create-home millrace \
    && install --directory --owner=millrace --group=millrace /project /var/lib/millrace
COPY --from=build /opt/millrace /opt/millrace
# By number, so that a cluster can see that it is not root.
USER 10001:10001
WORKDIR /project
VOLUME ["/var/lib/millrace"]
EXPOSE 6789
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"MILLRACE_PORT\", 6789)}/healthz', timeout=2)"]
# Listening beyond loopback asks for MILLRACE_API_TOKEN; without it the service says so and ends.
CMD ["millrace", "start"]
