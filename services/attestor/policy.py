"""The policy of a project: which images may run where, in Binary Authorization's form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from services.attestor.patterns import check_pattern, matches
from services.attestor.references import Reference
from services.attestor.wire import Wire

EvaluationMode = Literal["ALWAYS_ALLOW", "REQUIRE_ATTESTATION", "ALWAYS_DENY"]
EnforcementMode = Literal["ENFORCED_BLOCK_AND_AUDIT_LOG", "DRYRUN_AUDIT_LOG_ONLY"]
GlobalMode = Literal["GLOBAL_POLICY_EVALUATION_MODE_UNSPECIFIED", "ENABLE", "DISABLE"]

MOST_PATTERNS = 1000
MOST_RULES = 1000


class WhitelistPattern(Wire):
    """One entry of the allow list."""

    name_pattern: Annotated[str, AfterValidator(check_pattern)]


class AdmissionRule(Wire):
    """What an image needs to run where the rule holds."""

    evaluation_mode: EvaluationMode
    require_attestations_by: tuple[str, ...] = ()
    enforcement_mode: EnforcementMode

    @model_validator(mode="after")
    def _attestors_exactly_where_required(self) -> Self:
        required = self.evaluation_mode == "REQUIRE_ATTESTATION"
        if required != bool(self.require_attestations_by):
            raise ValueError("requireAttestationsBy is given if and only if evaluationMode is REQUIRE_ATTESTATION")
        if any(not is_attestor_name(name) for name in self.require_attestations_by):
            raise ValueError("requireAttestationsBy names attestors as projects/P/attestors/A")
        return self

    @property
    def enforced(self) -> bool:
        """Whether a refusal counts, or is only written down."""
        return self.enforcement_mode == "ENFORCED_BLOCK_AND_AUDIT_LOG"


def is_attestor_name(name: str) -> bool:
    """Whether this is `projects/P/attestors/A`."""
    parts = name.split("/")
    return len(parts) == 4 and all(parts) and parts[0] == "projects" and parts[2] == "attestors"


Rules = dict[str, AdmissionRule]


class Policy(Wire):
    """`projects/P/policy`. Of the four maps of rules only one may hold any."""

    name: str = ""
    description: str = ""
    global_policy_evaluation_mode: GlobalMode = "GLOBAL_POLICY_EVALUATION_MODE_UNSPECIFIED"
    admission_whitelist_patterns: tuple[WhitelistPattern, ...] = ()
    cluster_admission_rules: Rules = {}
    kubernetes_namespace_admission_rules: Rules = {}
    kubernetes_service_account_admission_rules: Rules = {}
    istio_service_identity_admission_rules: Rules = {}
    default_admission_rule: AdmissionRule
    update_time: str = ""
    etag: str = ""

    @model_validator(mode="after")
    def _one_map_of_rules(self) -> Self:
        filled = [rules for rules in self._maps() if rules]
        if len(filled) > 1:
            raise ValueError("only one of the four maps of admission rules may be given")
        if len(self.admission_whitelist_patterns) > MOST_PATTERNS or any(len(rules) > MOST_RULES for rules in filled):
            raise ValueError(f"at most {MOST_PATTERNS} patterns and {MOST_RULES} rules")
        if any(":" not in name for name in self.kubernetes_service_account_admission_rules):
            raise ValueError("service accounts are named namespace:serviceaccount")
        return self

    def _maps(self) -> tuple[Rules, ...]:
        return (
            self.cluster_admission_rules,
            self.kubernetes_namespace_admission_rules,
            self.kubernetes_service_account_admission_rules,
            self.istio_service_identity_admission_rules,
        )

    def allow_lists(self, reference: Reference) -> str:
        """The pattern of the allow list that names the image; empty when none does."""
        patterns = (entry.name_pattern for entry in self.admission_whitelist_patterns)
        return next((pattern for pattern in patterns if matches(pattern, reference)), "")

    def rule_for(self, workload: "Workload") -> tuple[str, AdmissionRule]:
        """The rule that holds for the workload, and what it is called in reasons."""
        for kind, rules, key in workload.lookups(self):
            if key in rules:
                return f"{kind} {key}", rules[key]
        return "default", self.default_admission_rule


@dataclass(frozen=True)
class Workload:
    """Who wants to run the images: what the rules of a policy are chosen by."""

    cluster: str
    namespace: str
    service_account: str

    def lookups(self, policy: Policy) -> tuple[tuple[str, Mapping[str, AdmissionRule], str], ...]:
        """Kind, rules and key, the most specific first."""
        account = f"{self.namespace}:{self.service_account}"
        suffix = f"/ns/{self.namespace}/sa/{self.service_account}"
        identities = policy.istio_service_identity_admission_rules
        identity = next((name for name in identities if _spiffe_path(name) == suffix), "")
        return (
            ("service identity", identities, identity),
            ("service account", policy.kubernetes_service_account_admission_rules, account),
            ("namespace", policy.kubernetes_namespace_admission_rules, self.namespace),
            ("cluster", policy.cluster_admission_rules, self.cluster),
        )


def _spiffe_path(identity: str) -> str:
    """The path behind the trust domain; the scheme may be left out."""
    _, slash, path = identity.removeprefix("spiffe://").partition("/")
    return slash + path


ALLOW_ALL: Final = Policy(
    global_policy_evaluation_mode="ENABLE",
    default_admission_rule=AdmissionRule(
        evaluation_mode="ALWAYS_ALLOW", enforcement_mode="ENFORCED_BLOCK_AND_AUDIT_LOG"
    ),
)
"""What holds in a project where nobody has set a policy, as at Google."""

SYSTEM_POLICY: Final = Policy(
    name="locations/global/policy",
    default_admission_rule=AdmissionRule(
        evaluation_mode="ALWAYS_DENY", enforcement_mode="ENFORCED_BLOCK_AND_AUDIT_LOG"
    ),
)
"""Images that every project lets in with globalPolicyEvaluationMode ENABLE: none, because we run no cluster of ours."""
