"""The keys that firmware has compiled in."""

from __future__ import annotations

from bootmatrix.fw_cfg.format import keys


def test_each_fixed_key_once_and_the_directory_is_none() -> None:
    fixed = keys.fixed_keys()
    numbers = [one.key for one in fixed]
    assert numbers == [*range(keys.FILE_DIR), *range(keys.FILE_DIR + 1, keys.FILE_FIRST),
                       *range(keys.ARCH_FIRST, keys.ARCH_FIRST + 16)]
    assert len({one.name for one in fixed}) == len(fixed)


def test_known_ones_have_names_and_sizes_and_others_have_a_name_at_least() -> None:
    named = {one.key: one for one in keys.fixed_keys()}
    assert (named[keys.ID].name, named[keys.ID].size) == ("id", 4)
    assert (named[0x8004].name, named[0x8004].size) == ("hpet", 121)
    assert (named[0x1F].name, named[0x1F].size) == ("unknown-0x001f", None)
    assert keys.is_known(keys.ID)
    assert not keys.is_known(0x1F)
    assert not keys.is_known(keys.FILE_DIR)
