import pytest

from cli.admit import as_review
from cli.exits import Failed


def test_a_review_is_sent_as_it_is() -> None:
    review = {"kind": "AdmissionReview", "request": {"uid": "1"}}

    assert as_review(review, dry_run=True) is review


def test_an_object_becomes_the_question_whether_it_may_be_created() -> None:
    request = as_review({"apiVersion": "apps/v1", "kind": "Deployment"}, dry_run=True)["request"]

    assert request["kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert (request["operation"], request["dryRun"]) == ("CREATE", True)


def test_anything_else_is_refused() -> None:
    with pytest.raises(Failed, match="neither an object of Kubernetes"):
        as_review({"name": "x"}, dry_run=True)
