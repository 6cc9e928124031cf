import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.attestor.policy import Policy, Workload
from services.attestor.references import Reference

ALLOW = {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}
DENY = {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "DRYRUN_AUDIT_LOG_ONLY"}
REQUIRE = {
    "evaluationMode": "REQUIRE_ATTESTATION",
    "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
    "requireAttestationsBy": ["projects/demo/attestors/a"],
}
WORKLOAD = Workload(cluster="local.c1", namespace="shop", service_account="till")


def policy(**more: object) -> Policy:
    return Policy.model_validate({"defaultAdmissionRule": ALLOW, **more})


def test_a_policy_comes_back_as_it_was_written() -> None:
    content = {
        "description": "all of it",
        "globalPolicyEvaluationMode": "ENABLE",
        "admissionWhitelistPatterns": [{"namePattern": "gcr.io/a/*"}],
        "clusterAdmissionRules": {"local.c1": REQUIRE},
        "defaultAdmissionRule": DENY,
    }
    assert Policy.model_validate(content).json_data() == content


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"defaultAdmissionRule": {"evaluationMode": "REQUIRE_ATTESTATION", "enforcementMode": DENY["enforcementMode"]}},
        {"defaultAdmissionRule": {**ALLOW, "requireAttestationsBy": ["projects/p/attestors/a"]}},
        {"defaultAdmissionRule": {**REQUIRE, "requireAttestationsBy": ["a"]}},
        {"defaultAdmissionRule": {"evaluationMode": "ALWAYS_ALLOW"}},
        {"defaultAdmissionRule": {**ALLOW, "evaluationMode": "SOMETIMES"}},
        {"defaultAdmissionRule": ALLOW, "unheardOf": 1},
        {"defaultAdmissionRule": ALLOW, "admissionWhitelistPatterns": [{"namePattern": "*"}]},
        {
            "defaultAdmissionRule": ALLOW,
            "clusterAdmissionRules": {"a": DENY},
            "kubernetesNamespaceAdmissionRules": {"b": DENY},
        },
        {"defaultAdmissionRule": ALLOW, "kubernetesServiceAccountAdmissionRules": {"till": DENY}},
    ],
)
def test_what_google_refuses_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(content)


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ({"clusterAdmissionRules": {"local.c1": DENY}}, "cluster local.c1"),
        ({"kubernetesNamespaceAdmissionRules": {"shop": DENY}}, "namespace shop"),
        ({"kubernetesServiceAccountAdmissionRules": {"shop:till": DENY}}, "service account shop:till"),
        (
            {"istioServiceIdentityAdmissionRules": {"spiffe://cluster.local/ns/shop/sa/till": DENY}},
            "service identity spiffe://cluster.local/ns/shop/sa/till",
        ),
        (
            {"istioServiceIdentityAdmissionRules": {"cluster.local/ns/shop/sa/till": DENY}},
            "service identity cluster.local/ns/shop/sa/till",
        ),
        ({"clusterAdmissionRules": {"local.other": DENY}}, "default"),
        ({"kubernetesServiceAccountAdmissionRules": {"shop:other": DENY}}, "default"),
    ],
)
def test_the_rule_is_the_one_for_the_workload(rules: dict[str, object], name: str) -> None:
    found, rule = policy(**rules).rule_for(WORKLOAD)
    assert found == name
    assert rule.evaluation_mode == ("ALWAYS_ALLOW" if name == "default" else "ALWAYS_DENY")


def test_the_allow_list_names_the_pattern_that_matched() -> None:
    found = policy(admissionWhitelistPatterns=[{"namePattern": "gcr.io/x"}, {"namePattern": "gcr.io/a/*"}])
    assert found.allow_lists(Reference.parse("gcr.io/a/b:1")) == "gcr.io/a/*"
    assert found.allow_lists(Reference.parse("gcr.io/b/b:1")) == ""


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([field.alias or name for name, field in Policy.model_fields.items()])


@given(st.dictionaries(fields, json, max_size=4))
def test_any_json_is_a_policy_or_a_validation_error(content: dict[str, object]) -> None:
    try:
        found = Policy.model_validate({"defaultAdmissionRule": ALLOW, **content})
    except ValidationError:
        return
    assert Policy.model_validate(found.json_data()) == found
