"""`completion`: what completes commands, options and values in bash, zsh and fish.

The texts hold all commands and options themselves: a key press does not start an interpreter. Packages
bring them in `share/` (scripts/command_reference.py writes them there).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Final

import typer

from connector.cli.tree import Command, Parameter, tree

PROGRAMS: Final = ("ilp-connector", "connector")
"""The names of the command; the first is that of the package, which nobody else has."""


class Shell(StrEnum):
    """The shells."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what completes commands and options in a shell.

    bash: eval "$(ilp-connector completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. fish:
    ilp-connector completion fish > ~/.config/fish/completions/ilp-connector.fish
    """
    from connector.cli.main import app

    print(script(shell, tree(app)), end="")


def script(shell: Shell, program: Command) -> str:
    """What a shell reads, for both names of the command."""
    return _WRITERS[shell](program)


def _names_below(one: Command) -> str:
    return " ".join(below.path[-1] for below in one.commands)


def _option_names(one: Command) -> str:
    return " ".join(name for option in one.options for name in option.names)


def _typed(one: Command) -> str:
    """What is known of the line before a command, and the command: `peers add`, ` run`."""
    return f"{' '.join(one.path[:-1])} {one.path[-1]}"


def _first_sentence(text: str) -> str:
    return text.split(". ", maxsplit=1)[0].rstrip(".")


# --- bash, from 3.2 on

_BASH: Final = """\
# Completion of {first} in bash. Made from the command line's own parser.
# shellcheck shell=bash disable=SC2207
_ilp_connector() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} previous='' at='' skip='' one i kind='' words='' below='' options=''
  [ "$COMP_CWORD" -lt 1 ] || previous=${{COMP_WORDS[COMP_CWORD - 1]}}
  COMPREPLY=()
  # Which command it is: values of options are no commands. Bash makes words of `=` and `:`.
  for ((i = 1; i < COMP_CWORD; i++)); do
    one=${{COMP_WORDS[i]}}
    if [ "$one" = = ] || [ "$one" = : ]; then skip=yes; continue; fi
    if [ -n "$skip" ]; then skip=''; continue; fi
    case "$at $one" in
{valued}
{commands}
    esac
  done
  if [ "$word" = = ]; then
    word=''
  elif [ "$previous" = = ] && [ "$COMP_CWORD" -ge 2 ]; then
    previous=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  case "$at $previous" in
{values}
  esac
  if [ -z "$kind" ]; then
    case $at in
{words}
    esac
    words=$options
    case "$word" in
      -*) ;;
      *) [ -z "$below" ] || words=$below
        case $at in
{arguments}
        esac ;;
    esac
  fi
  local IFS=$'\\n'
  case $kind in
    '' | words) IFS=$' \\n' COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
    file) COMPREPLY=($(compgen -f -- "$word")) ; compopt -o filenames 2>/dev/null ;;
    folder) COMPREPLY=($(compgen -d -- "$word")) ; compopt -o filenames 2>/dev/null ;;
  esac
  return 0
}}
complete -F _ilp_connector {programs}
"""


def _bash(program: Command) -> str:
    commands = [one for one in program.all() if one.path]
    valued = [
        _pattern(f"{one.name} {name}")
        for one in program.all()
        for option in one.options
        if option.takes_value
        for name in option.names
    ]
    values = [
        f"    {'|'.join(_pattern(f'{one.name} {name}') for name in option.names)}) {_bash_value(option)} ;;"
        for one in program.all()
        for option in one.options
        if option.takes_value
    ]
    arguments = [
        f"          {_pattern(one.name)}) {_bash_value(argument)} ;;"
        for one in program.all()
        for argument in one.arguments[:1]
        if argument.choices or argument.completes
    ]
    return _BASH.format(
        first=PROGRAMS[0],
        programs=" ".join(PROGRAMS),
        valued=f"      {'|'.join(valued)}) skip=yes ;;",
        commands="\n".join(
            f"      {_pattern(_typed(one))}) at={_pattern(one.name)} ;;" for one in commands
        ),
        values="\n".join(values),
        words="\n".join(
            f"      {_pattern(one.name)}) below='{_names_below(one)}' options='{_option_names(one)}' ;;"
            for one in program.all()
        ),
        arguments="\n".join(arguments),
    )


def _pattern(text: str) -> str:
    return f"'{text}'"


def _bash_value(one: Parameter) -> str:
    if one.choices:
        return f"kind=words words='{' '.join(one.choices)}'"
    return f"kind='{one.completes or 'none'}'"


# --- zsh

_ZSH_HEAD: Final = """\
#compdef {programs}
# Completion of {first} in zsh. Made from the command line's own parser.
"""
_ZSH_END: Final = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _ilp_connector "$@"
else
  compdef _ilp_connector {programs}
fi
"""


def _zsh(program: Command) -> str:
    names = {"programs": " ".join(PROGRAMS), "first": PROGRAMS[0]}
    functions = "\n".join(_zsh_function(one) for one in program.all())
    return _ZSH_HEAD.format(**names) + functions + _ZSH_END.format(**names)


def _zsh_name(one: Command) -> str:
    return "_".join(("_ilp_connector", *(word.replace("-", "_") for word in one.path)))


def _zsh_function(one: Command) -> str:
    specs = [_zsh_option(option) for option in one.options]
    if not one.commands:
        specs += [
            shlex.quote(f"{'*' if argument.is_repeated else at}:{argument.names[0]}:{_zsh_value(argument)}")
            for at, argument in enumerate(one.arguments, 1)
        ]  # fmt: skip
        listed = " \\\n    ".join(specs)
        return f"\n{_zsh_name(one)}() {{\n  _arguments -s \\\n    {listed}\n}}\n"
    specs += ["'1:command:->command'", "'*::argument:->argument'"]
    listed = " \\\n    ".join(specs)
    found = "\n      ".join(
        shlex.quote(f"{below.path[-1]}:{_first_sentence(below.summary)}") for below in one.commands
    )
    calls = "\n      ".join(f"{below.path[-1]}) {_zsh_name(below)} ;;" for below in one.commands)
    return (
        f"\n{_zsh_name(one)}() {{\n  local curcontext=$curcontext state line\n  local -a found\n"
        f"  typeset -A opt_args\n  _arguments -C -s \\\n    {listed}\n  case $state in\n"
        f"    command)\n      found=(\n      {found}\n      )\n"
        "      _describe -t commands command found ;;\n"
        f"    argument) case $line[1] in\n      {calls}\n    esac ;;\n  esac\n}}\n"
    )


def _zsh_option(one: Parameter) -> str:
    text = _first_sentence(one.help).replace("[", "(").replace("]", ")").replace(":", "\\:")
    value = f":{one.names[0].lstrip('-')}:{_zsh_value(one)}" if one.takes_value else ""
    rest = shlex.quote(f"[{text}]{value}")
    once = "'*'" if one.is_repeated else f"'({' '.join(one.names)})'"
    names = "{" + ",".join(one.names) + "}" if len(one.names) > 1 else one.names[0]
    return f"{once}{names}{rest}"


def _zsh_value(one: Parameter) -> str:
    if one.choices:
        return f"({' '.join(one.choices)})"
    return {"file": "_files", "folder": "_files -/"}.get(one.completes, " ")


# --- fish

_FISH_HEAD: Final = """\
# Completion of {first} in fish. Made from the command line's own parser.
function __ilp_connector_at --description 'Whether this command is typed; values of options are none'
    set -l at ''
    set -l skip ''
    for word in (commandline -opc)[2..-1]
        if test -n "$skip"
            set skip ''
            continue
        end
        switch "$at $word"
            case {valued}
                set skip yes
            case {commands}
                set at (string trim -- "$at $word")
        end
    end
    test "$at" = "$argv[1]"
end
complete -c {first} -f
"""


def _fish(program: Command) -> str:
    valued = [
        f"'{one.name} {name}'"
        for one in program.all()
        for option in one.options
        if option.takes_value
        for name in option.names
    ]
    commands = [f"'{_typed(one)}'" for one in program.all() if one.path]
    head = _FISH_HEAD.format(
        first=PROGRAMS[0], valued=" ".join(valued), commands=" ".join(commands)
    )
    lines = [line for one in program.all() for line in _fish_lines(one)]
    wraps = [f"complete -c {name} -w {PROGRAMS[0]}" for name in PROGRAMS[1:]]
    return head + "\n".join([*lines, *wraps]) + "\n"


def _fish_lines(one: Command) -> Iterator[str]:
    start = f"complete -c {PROGRAMS[0]} -n \"__ilp_connector_at '{one.name}'\""
    for below in one.commands:
        yield f"{start} -a {below.path[-1]} -d {_fish_text(_first_sentence(below.summary))}"
    for argument in one.arguments[:1]:
        if argument.choices:
            yield f"{start} -a '{' '.join(argument.choices)}'"
        elif argument.completes:
            yield f"{start} {_FISH_VALUES[argument.completes].removeprefix('-x ')}"
    for option in one.options:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
        )
        value = ""
        if option.choices:
            value = f" -x -a '{' '.join(option.choices)}'"
        elif option.takes_value:
            value = f" {_FISH_VALUES[option.completes]}"
        yield f"{start} {names}{value} -d {_fish_text(_first_sentence(option.help))}"


_FISH_VALUES: Final = {
    "": "-x",
    "file": "-r -F",
    "folder": "-x -a '(__fish_complete_directories)'",
}


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_WRITERS: Final[Mapping[Shell, Callable[[Command], str]]] = {
    Shell.bash: _bash,
    Shell.zsh: _zsh,
    Shell.fish: _fish,
}
