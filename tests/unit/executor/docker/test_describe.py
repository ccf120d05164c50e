"""What an engine says of its machine."""

from __future__ import annotations

from swarmd.executor.docker.describe import read_generic_resources, read_plugins
from swarmd.model import GenericResource, Plugin


def test_plugins_by_type_and_name() -> None:
    info = {"Plugins": {"Log": ["syslog", "json-file"], "Volume": ["local"], "Network": None, "Authorization": ["x"]}}
    assert read_plugins(info) == (
        Plugin(type="Log", name="json-file"),
        Plugin(type="Log", name="syslog"),
        Plugin(type="Volume", name="local"),
    )
    assert read_plugins({}) == ()


def test_generic_resources_of_the_engines_own_configuration() -> None:
    info = {
        "GenericResources": [
            {"NamedResourceSpec": {"Kind": "gpu", "Value": "UUID2"}},
            {"NamedResourceSpec": {"Kind": "gpu", "Value": "UUID1"}},
            {"DiscreteResourceSpec": {"Kind": "apple", "Value": 3}},
            {"DiscreteResourceSpec": {"Kind": "", "Value": 3}},
            {"Unknown": {}},
        ]
    }
    assert read_generic_resources(info) == (
        GenericResource(kind="apple", amount=3),
        GenericResource(kind="gpu", names=("UUID2", "UUID1")),
    )
    assert read_generic_resources({"GenericResources": None}) == ()
