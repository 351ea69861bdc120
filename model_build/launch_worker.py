"""Runs inside the SageMaker SDK's own environment: `python -m model_build.launch_worker CODE ANSWER.json`.

The job (model_build.launch.request) comes on stdin; the SDK prints the job's log as it comes; what is left of
it, or why it failed, goes to ANSWER.json. Imports nothing of turnout.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any


def run(job: dict[str, Any], code: str) -> dict[str, Any]:
    """Starts the job, waits for its end; its name, artifacts and last metrics."""
    from sagemaker.core.helper.session_helper import Session
    from sagemaker.train import ModelTrainer, configs

    trainer = ModelTrainer(
        # Left alone, the SDK makes a bucket of its own, which the job's role may not read.
        sagemaker_session=Session(default_bucket=job["bucket"], default_bucket_prefix=job["code_prefix"]),
        training_image=job["training_image"],
        role=job["role"],
        base_job_name=job["base_job_name"],
        hyperparameters=job["hyperparameters"],
        source_code=configs.SourceCode(
            source_dir=code, requirements="requirements.txt", command="python -m model_build.remote"
        ),
        compute=configs.Compute(**job["compute"]),
        stopping_condition=configs.StoppingCondition(**job["stopping_condition"]),
        checkpoint_config=configs.CheckpointConfig(**job["checkpoint_config"]),
        output_data_config=configs.OutputDataConfig(**job["output_data_config"]),
    ).with_metric_definitions(
        [configs.MetricDefinition(name=name, regex=regex) for name, regex in job["metrics"].items()]
    )
    inputs = [configs.InputData(channel_name=name, data_source=uri) for name, uri in job["channels"].items()]
    trainer.train(input_data_config=inputs, wait=True, logs=True)
    done = trainer._latest_training_job
    done.refresh()
    artifacts = getattr(done, "model_artifacts", None)
    uri = getattr(artifacts, "s3_model_artifacts", None)
    metrics = done.final_metric_data_list
    return {
        "job": done.training_job_name,
        "uri": uri if isinstance(uri, str) else None,
        "metrics": {m.metric_name: m.value for m in metrics} if isinstance(metrics, list) else {},
    }


def main() -> None:
    """Write the answer; a job that failed is an answer too."""
    code, answer = sys.argv[1:]
    job = json.load(sys.stdin)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
    logging.getLogger("sagemaker").setLevel(logging.INFO)  # the job's own lines come as such
    try:
        told = run(job, code)
    except Exception as error:  # the SDK's errors, botocore's, pydantic's: this process ends with either
        traceback.print_exc()
        told = {"failed": f"{type(error).__name__}: {error}"}
    Path(answer).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
