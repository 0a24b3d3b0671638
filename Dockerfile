# One image for every service: coordinators, the command line, and the migration of the database.
FROM python:3.11-slim-bookworm

# The default data set, so that a search needs no download.
RUN apt-get update \
    && apt-get install -y --no-install-recommends dataset-fashion-mnist \
    && rm -rf /var/lib/apt/lists/*

# Named volumes take over the owner of the folder that they are first mounted on.
RUN useradd --uid 1000 --create-home mobilenas \
    && install -d -o mobilenas -g mobilenas /data /runs /artifacts /app

WORKDIR /src
COPY constraints.txt pyproject.toml ./

# torch comes first: its index has CPU builds, where the default one has builds with gigabytes of CUDA. An empty
# TORCH_INDEX_URL takes it from the default index.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --constraint constraints.txt \
    ${TORCH_INDEX_URL:+--no-deps --index-url "$TORCH_INDEX_URL"} \
    "$(sed -n 's/^torch==/torch==/p' constraints.txt)"

# What the project needs changes less often than the project.
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['postgres'], *extras['parquet'], *extras['ray'], sep='\n')" > requirements.txt \
    && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt "hatchling>=1.27"

# More packages, such as s3fs for artefacts on S3.
ARG PACKAGES=
RUN test -z "$PACKAGES" || pip install --no-cache-dir --constraint constraints.txt $PACKAGES

COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && rm -rf /src/*

COPY configs /app/configs
WORKDIR /app
USER mobilenas
ENV MOBILENAS_CACHE_DIR=/data MOBILENAS_RUNS=/runs PYTHONUNBUFFERED=1
ENTRYPOINT ["mobilenas"]
