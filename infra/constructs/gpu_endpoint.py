"""The GPU endpoint: a model from the release bucket, behind one variant, scaled by the control loop."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.config import Gpu
from infra.names import VARIANT

STARTUP_TIMEOUT_S = 600
VOLUME_GB = 50


class GpuEndpoint(Construct):
    """Model, endpoint configuration and endpoint, and an inference component where capacity may be zero.

    SageMaker names models and configurations itself, so that a new release replaces them without a clash.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        gpu: Gpu,
        image: str,
        release_uri: str,
        capture_uri: str,
        role: iam.Role,
        alarms: list[cloudwatch.CfnAlarm],
    ) -> None:
        super().__init__(scope, construct_id)
        self.gpu = gpu
        self.alarms = alarms
        scales_to_zero = gpu.kind == "inference_component"
        self.model = self._model(image, release_uri, role)
        config = self._config(self.model, role, capture_uri, with_model=not scales_to_zero)
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=name,
            endpoint_config_name=config.attr_endpoint_config_name,
            deployment_config=None if scales_to_zero else self._blue_green(),
        )
        self.resources: list[cdk.CfnResource] = [self.model, config, self.endpoint]
        if scales_to_zero:
            self.resources.append(self._component(name))

    def _model(self, image: str, release_uri: str, role: iam.Role) -> sagemaker.CfnModel:
        source = sagemaker.CfnModel.ModelDataSourceProperty(
            s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                compression_type="None", s3_data_type="S3Prefix", s3_uri=release_uri
            )
        )
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=role.role_arn,
            enable_network_isolation=True,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image, model_data_source=source, environment={"TURNOUT_GPU_MODEL_DIR": "/opt/ml/model"}
            ),
        )
        policy = role.node.try_find_child("DefaultPolicy")
        if policy is not None:  # creation reads the bucket at once and would race the role's policy
            model.node.add_dependency(policy)
        return model

    def _config(
        self, model: sagemaker.CfnModel, role: iam.Role, capture_uri: str, *, with_model: bool
    ) -> sagemaker.CfnEndpointConfig:
        gpu = self.gpu
        scaling = sagemaker.CfnEndpointConfig.ManagedInstanceScalingProperty(
            status="ENABLED", min_instance_count=gpu.min_instances, max_instance_count=gpu.max_instances
        )
        variant = sagemaker.CfnEndpointConfig.ProductionVariantProperty(
            variant_name=VARIANT,
            model_name=model.attr_model_name if with_model else None,
            instance_type=gpu.instance_type,
            initial_instance_count=max(1, gpu.min_instances),
            initial_variant_weight=1 if with_model else None,
            managed_instance_scaling=None if with_model else scaling,
            routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                routing_strategy="LEAST_OUTSTANDING_REQUESTS"
            ),
            container_startup_health_check_timeout_in_seconds=STARTUP_TIMEOUT_S if with_model else None,
            model_data_download_timeout_in_seconds=STARTUP_TIMEOUT_S if with_model else None,
        )
        return sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[variant],
            execution_role_arn=None if with_model else role.role_arn,
            enable_network_isolation=None if with_model else True,
            data_capture_config=self._capture(capture_uri) if gpu.data_capture_percent else None,
        )

    def _capture(self, uri: str) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
        option = sagemaker.CfnEndpointConfig.CaptureOptionProperty
        return sagemaker.CfnEndpointConfig.DataCaptureConfigProperty(
            capture_options=[option(capture_mode="Input"), option(capture_mode="Output")],
            destination_s3_uri=uri,
            initial_sampling_percentage=self.gpu.data_capture_percent,
            enable_capture=True,
        )

    def _component(self, name: str) -> sagemaker.CfnInferenceComponent:
        component = sagemaker.CfnInferenceComponent
        resource = component(
            self,
            "Component",
            endpoint_name=self.endpoint.attr_endpoint_name,
            variant_name=VARIANT,
            inference_component_name=name,
            specification=component.InferenceComponentSpecificationProperty(
                model_name=self.model.attr_model_name,
                compute_resource_requirements=component.InferenceComponentComputeResourceRequirementsProperty(
                    number_of_accelerator_devices_required=1, min_memory_required_in_mb=4096
                ),
                startup_parameters=component.InferenceComponentStartupParametersProperty(
                    container_startup_health_check_timeout_in_seconds=STARTUP_TIMEOUT_S,
                    model_data_download_timeout_in_seconds=STARTUP_TIMEOUT_S,
                ),
            ),
            runtime_config=component.InferenceComponentRuntimeConfigProperty(
                copy_count=self.gpu.min_instances
            ),
            deployment_config=component.InferenceComponentDeploymentConfigProperty(
                rolling_update_policy=component.InferenceComponentRollingUpdatePolicyProperty(
                    maximum_batch_size=component.InferenceComponentCapacitySizeProperty(
                        type="COPY_COUNT", value=1
                    ),
                    wait_interval_in_seconds=120,
                ),
                auto_rollback_configuration=component.AutoRollbackConfigurationProperty(
                    alarms=[component.AlarmProperty(alarm_name=alarm.ref) for alarm in self.alarms]
                ),
            ),
        )
        resource.add_resource_dependency(self.endpoint)
        return resource

    def _blue_green(self) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
        """A canary of half the instances for five minutes, then the rest; an alarm takes it back."""
        endpoint = sagemaker.CfnEndpoint
        return endpoint.DeploymentConfigProperty(
            blue_green_update_policy=endpoint.BlueGreenUpdatePolicyProperty(
                traffic_routing_configuration=endpoint.TrafficRoutingConfigProperty(
                    type="CANARY",
                    canary_size=endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=50),
                    wait_interval_in_seconds=300,
                ),
                termination_wait_in_seconds=120,
                maximum_execution_timeout_in_seconds=3600,
            ),
            auto_rollback_configuration=endpoint.AutoRollbackConfigProperty(
                alarms=[endpoint.AlarmProperty(alarm_name=alarm.ref) for alarm in self.alarms]
            ),
        )
