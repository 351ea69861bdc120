# The container of the training job. Built by CodeBuild from the repository's root, beside the GPU server's.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}

ENV PYTHONUNBUFFERED=1 PYTHONPATH=/opt/turnout
WORKDIR /opt/turnout

COPY constraints.txt ./
RUN python -m pip install --no-cache-dir --constraint constraints.txt \
    numpy onnx onnxruntime onnxscript pydantic scikit-learn torch-pruning

COPY handlers ./handlers
COPY model_build ./model_build

ENTRYPOINT ["python", "-m", "model_build.remote"]
