"""Several files of one site: includes, profiles, the host's own settings."""

from __future__ import annotations

from tests.config.sites import Desk

REDIS = '[service.redis]\ncommand = "redis-server"\n'


def test_included_files_are_joined_in_the_order_of_their_names(desk: Desk) -> None:
    desk.write('[service.b]\ncommand = "b"\ncwd = "data"\n', "conf.d/b.toml")
    desk.write('[service.a]\ncommand = "a"\n', "conf.d/a.toml")
    desk.write("ignored", "conf.d/notes.txt")
    site = desk.load(f'include = ["conf.d/*.toml"]\n{REDIS}')
    assert list(site.services) == ["redis", "a", "b"]
    assert site.services["b"].cwd == desk.directory / "conf.d/data"
    assert site.services["a"].cwd == desk.directory
    assert [path.name for path in site.files] == ["coserver.toml", "a.toml", "b.toml"]
    assert str(site.settings["service.b.command"].origin) == "conf.d/b.toml:2"


def test_two_files_may_state_different_keys_of_one_table(desk: Desk) -> None:
    desk.write("[service.redis]\nprocesses = 2\n", "more.toml")
    site = desk.load(f'include = ["more.toml"]\n{REDIS}')
    assert (site.services["redis"].command, site.services["redis"].processes) == (("redis-server",), 2)


def test_the_same_key_in_two_files_is_named_with_both_places(desk: Desk) -> None:
    desk.write(f'{REDIS}processes = 2\n[site]\nname = "b"\n', "more.toml")
    assert desk.problems(f'include = ["more.toml"]\n{REDIS}[site]\nname = "a"\n') == [
        "more.toml:2: service.redis.command: stated twice: coserver.toml:3 states it too; remove one of them",
        "more.toml:5: site.name: stated twice: coserver.toml:5 states it too; remove one of them",
    ]


def test_every_broken_file_is_told_at_once(desk: Desk) -> None:
    desk.write("[a", "conf.d/a.toml")
    desk.write("b = ", "conf.d/b.toml")
    problems = desk.problems('include = ["conf.d/*.toml"]\n')
    assert [problem.partition(": ")[0] for problem in problems] == ["conf.d/a.toml:1", "conf.d/b.toml:1"]


def test_a_pattern_may_match_nothing_but_a_name_must_exist(desk: Desk) -> None:
    assert desk.load('include = ["conf.d/*.toml"]\n').services == {}
    assert desk.problems('include = ["conf.d/a.toml"]\n') == [
        f"coserver.toml:1: include: cannot read {desk.directory}/conf.d/a.toml: no such file"
    ]


def test_a_pattern_may_use_variables(desk: Desk) -> None:
    desk.write(REDIS, "extra/one.toml")
    desk.environ = {"WHERE": "extra"}
    assert list(desk.load('include = ["${WHERE}/*.toml"]\n').services) == ["redis"]
    assert desk.problems('include = ["${NOT_SET}/*.toml"]\n') == [
        "coserver.toml:1: include[0]: the environment variable NOT_SET is not set; set it, or give a default: "
        '"${NOT_SET:-value}"'
    ]


def test_a_wide_pattern_includes_neither_the_main_file_nor_its_overlays(desk: Desk) -> None:
    desk.write(REDIS, "redis.toml")
    desk.write('[site]\nname = "prod"\n', "coserver.prod.toml")
    site = desk.load('include = ["*.toml"]\n[site]\nname = "shop"\n')
    assert (site.name, list(site.services)) == ("shop", ["redis"])


def test_only_the_main_file_includes(desk: Desk) -> None:
    desk.write('include = ["b.toml"]\n', "a.toml")
    desk.write('include = ["a.toml"]\n', "coserver.dev.toml")
    assert desk.problems('include = ["a.toml"]\n', profile="dev") == [
        "a.toml:1: include: an included file cannot include others; name them in the main file",
        "coserver.dev.toml:1: include: an overlay cannot include files; name them in the main file",
    ]


def test_an_include_that_is_no_list_is_told_as_such(desk: Desk) -> None:
    assert desk.problems('include = "conf.d/*.toml"\n') == [
        'coserver.toml:1: include: expected a list such as ["conf.d/*.toml"], found "conf.d/*.toml"'
    ]


def test_a_profile_lies_over_the_file_and_what_it_includes(desk: Desk) -> None:
    desk.write("[service.redis]\nprocesses = 2\nenv = { A = '1', B = '1' }\n", "more.toml")
    desk.write(
        '[service.redis]\nprocesses = 3\ncwd = "here"\nenv = { B = "2" }\n[service.x]\ncommand = "x"\n',
        "coserver.prod.toml",
    )
    main = desk.write(f'include = ["more.toml"]\n{REDIS}')
    site = desk.load(path=main, profile="prod")
    redis = site.services["redis"]
    assert (redis.processes, redis.command, redis.env) == (3, ("redis-server",), {"A": "1", "B": "2"})
    assert "x" in site.services
    origin = site.settings["service.redis.processes"].origin
    assert (origin.kind, str(origin)) == ("profile", "coserver.prod.toml:2")
    assert str(site.settings["service.redis.env.A"].origin) == "more.toml:3"
    assert desk.load(path=main).services["redis"].processes == 2


def test_an_unknown_profile_is_refused_with_the_known_ones(desk: Desk) -> None:
    assert desk.problems(REDIS, profile="prod") == [
        'no profile "prod"; a profile NAME is a file coserver.NAME.toml beside coserver.toml'
    ]
    desk.write("", "coserver.dev.toml")
    desk.write("", "coserver.test.toml")
    assert desk.problems(REDIS, profile="prod") == ['no profile "prod"; known here: dev, test']
    assert desk.problems(REDIS, profile="../dev") == ['no profile "../dev"; known here: dev, test']


def test_the_host_s_own_file_is_stronger_than_the_site_s(desk: Desk) -> None:
    node_file = desk.write('[node]\nname = "web7"\n', "etc/node.toml")
    main = desk.write('[node]\nname = "web1"\nlabels = ["web"]\n')
    site = desk.load(path=main, node_file=node_file)
    assert (site.node.name, site.node.labels) == ("web7", ("web",))
    origin = site.settings["node.name"].origin
    assert (origin.kind, str(origin)) == ("node", "etc/node.toml:2")
    assert node_file in site.files


def test_the_host_s_own_file_holds_only_the_node(desk: Desk) -> None:
    node_file = desk.write('[site]\nname = "x"\n[node]\nnam = "y"\n', "etc/node.toml")
    assert desk.problems(REDIS, node_file=node_file) == [
        "etc/node.toml:1: site: does not belong here; a host's own file holds only [node]"
    ]
    node_file = desk.write('[node]\nnam = "y"\n', "etc/node.toml")
    assert desk.problems(REDIS, node_file=node_file) == [
        'etc/node.toml:2: node.nam: unknown key; did you mean "name"?'
    ]


def test_the_environment_is_the_strongest_layer(desk: Desk) -> None:
    node_file = desk.write('[node]\nname = "web7"\n', "etc/node.toml")
    desk.write('[node]\nname = "prod"\n', "coserver.prod.toml")
    desk.environ = {"COSERVER_CFG__NODE__NAME": "web9"}
    main = desk.write('[node]\nname = "web1"\n')
    assert desk.load(path=main, profile="prod", node_file=node_file).node.name == "web9"
    assert desk.load(path=main, profile="prod", node_file=node_file, environ={}).node.name == "web7"
    assert desk.load(path=main, profile="prod", environ={}).node.name == "prod"
