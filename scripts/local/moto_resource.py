"""Teaches moto's CloudFormation one resource type at a time.

moto finds its types as the direct subclasses of `CloudFormationModel`, each with five static methods that
differ little. `teach` makes such a subclass out of functions that say only what is particular to the type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.core.common_models import CloudFormationModel


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a template asks for: `name` is the stated name, or one that CloudFormation makes up."""

    name: str
    properties: Mapping[str, Any]
    account_id: str
    region: str


@dataclass(frozen=True, slots=True)
class Made:
    """What `Ref` and `Fn::GetAtt` give for a resource that exists."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


Create = Callable[[Wanted], Made]
Update = Callable[[Made, Wanted], Made]
Delete = Callable[[Made, Wanted], None]


def teach(kind: str, *, name: str = "", create: Create, update: Update, delete: Delete) -> None:
    """Registers the CloudFormation type `kind`; `name` is the property that holds its physical name."""

    class Taught(CloudFormationModel):
        def __init__(self, made: Made, wanted: Wanted) -> None:
            self.made = made
            self.wanted = wanted

        @property
        def physical_resource_id(self) -> str:
            return self.made.ref

        def get_cfn_attribute(self, attribute: str) -> str:
            if attribute not in self.made.attributes:
                raise UnformattedGetAttTemplateException
            return self.made.attributes[attribute]

        def is_created(self) -> bool:
            return True

        def delete(self, _account_id: str, _region: str) -> None:
            delete(self.made, self.wanted)

        @staticmethod
        def cloudformation_name_type() -> str:
            return name

        @staticmethod
        def cloudformation_type() -> str:
            return kind

        @classmethod
        def has_cfn_attr(cls, _attr: str) -> bool:
            return True

        @classmethod
        def create_from_cloudformation_json(
            cls,
            resource_name: str,
            cloudformation_json: dict[str, Any],
            account_id: str,
            region_name: str,
            **_: Any,
        ) -> Taught:
            wanted = Wanted(resource_name, cloudformation_json["Properties"], account_id, region_name)
            return cls(create(wanted), wanted)

        @classmethod
        def update_from_cloudformation_json(
            cls,
            original_resource: Taught,
            new_resource_name: str,
            cloudformation_json: dict[str, Any],
            account_id: str,
            region_name: str,
        ) -> Taught:
            kept = original_resource.wanted.name or new_resource_name
            wanted = Wanted(kept, cloudformation_json["Properties"], account_id, region_name)
            return cls(update(original_resource.made, wanted), wanted)

    Taught.__name__ = Taught.__qualname__ = kind.replace("::", "")
    _KEPT.append(Taught)


_KEPT: list[type] = []  # moto holds its types weakly, through __subclasses__
