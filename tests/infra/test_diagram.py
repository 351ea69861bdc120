from __future__ import annotations

import pytest

from infra import diagram

from .conftest import Look


def test_a_page_shows_what_each_stack_holds_and_needs():
    bucket, role = {"Type": "AWS::S3::Bucket"}, {"Type": "AWS::IAM::Role"}
    templates = {"a-b": {"Resources": {"X": bucket, "Y": bucket, "R": role}}, "c": {"Resources": {}}}
    page = diagram.page(templates, {"a-b": [], "c": ["a-b"]})
    assert 'a_b["<b>a-b</b><br/>2 S3::Bucket"]' in page
    assert "c --> a_b" in page


@pytest.mark.slow
def test_the_committed_page_is_what_the_templates_are(look: Look):
    made = look(diagram.STAGE)
    drawn = diagram.page(made.templates, made.needs)
    assert diagram.PAGE.read_text() == drawn, "run: python -m infra.diagram"
