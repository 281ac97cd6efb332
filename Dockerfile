# The program in all its roles: the role is the argument (`serve`, `work`, `agent`, `migrate`).
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS packages
COPY requirements.txt /requirements.txt
RUN python -m venv /venv
RUN /venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /requirements.txt

FROM python:${PYTHON}
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=packages /venv /venv
COPY pyproject.toml alembic.ini /app/
COPY migrations /app/migrations
COPY adapters /app/adapters
COPY federation /app/federation
# The root file system is read-only where this runs.
RUN /venv/bin/python -m compileall -q /app
WORKDIR /app
USER 10001:10001
EXPOSE 8080 8081
ENTRYPOINT ["/venv/bin/python", "-m", "federation"]
CMD ["--help"]
