import pytest

from slotseg import get_cfg
from slotseg.errors import ConfigError


def test_an_unknown_key_names_its_source_and_the_nearest_key():
    with pytest.raises(ConfigError, match="the command line: .*NUM_SLOT.*did you mean") as caught:
        get_cfg(overrides=["MODEL.SLOTS.NUM_SLOT", 5])
    assert "MODEL.SLOTS.NUM_SLOTS" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("MODEL:\n  SLOTS:\n    NUMBER: 5\n")
    with pytest.raises(ConfigError, match="wrong.yaml: unknown config key .*NUMBER"):
        get_cfg(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="missing.yaml"):
        get_cfg(str(tmp_path / "missing.yaml"))


def test_broken_yaml_is_named(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("MODEL: [1, 2\n")
    with pytest.raises(ConfigError, match="broken.yaml") as caught:
        get_cfg(str(path))
    assert "\n" not in str(caught.value)


def test_a_wrong_type_names_the_source_and_key():
    with pytest.raises(ConfigError, match="the command line: .*SOLVER.MAX_ITER"):
        get_cfg(overrides=["SOLVER.MAX_ITER", "many"])


def test_an_odd_number_of_overrides_is_refused():
    with pytest.raises(ConfigError, match="the command line"):
        get_cfg(overrides=["SOLVER.MAX_ITER"])


def test_a_file_on_a_base_overrides_it(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "VERSION: 2\nMODEL:\n  SLOTS:\n    NUM_SLOTS: 5\n    DIM: 32\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text('_BASE_: "base.yaml"\nMODEL:\n  SLOTS:\n    DIM: 48\n')
    slots = get_cfg(str(child), ["MODEL.SLOTS.POSITION", "fourier"]).MODEL.SLOTS
    assert (slots.NUM_SLOTS, slots.DIM, slots.POSITION) == (5, 48, "fourier")


def test_yaml_cannot_execute_code(tmp_path):
    path, touched = tmp_path / "evil.yaml", tmp_path / "touched"
    path.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{touched}']\n")
    with pytest.raises(ConfigError, match="evil.yaml"):
        get_cfg(str(path))
    assert not touched.exists()
