"""Label selectors, as Kubernetes defines them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from llmendpoint_common.api.fields import ApiModel, LabelKey, Labels, LabelValue, rules


class SelectorOperator(StrEnum):
    """Operators of a requirement for a label."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelRequirement(ApiModel):
    """A requirement for one label."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : "
                "!has(self.values) || size(self.values) == 0",
                "values is required if operator is In or NotIn, and may not be set otherwise",
            )
        )
    )

    key: LabelKey = Field(description="Key of the label.")
    operator: SelectorOperator = Field(
        description="In: the label has one of the values. NotIn: it has none of them, or does not exist. Exists: the "
        "label exists, with any value. DoesNotExist: it does not exist."
    )
    values: list[LabelValue] = Field(
        default_factory=list, max_length=16, description="Values of the label, if operator is In or NotIn."
    )


class LabelSelector(ApiModel):
    """Selects objects by their labels. All requirements have to be met. An empty selector selects all objects."""

    match_labels: Labels = Field(
        default_factory=dict, max_length=16, description="Labels that an object must have, with these values."
    )
    match_expressions: list[LabelRequirement] = Field(
        default_factory=list, max_length=16, description="Further requirements for the labels of an object."
    )
