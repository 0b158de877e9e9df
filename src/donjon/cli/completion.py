"""`donjon completion SHELL`: scripts made from the table, so they complete what this version has and nothing else.

All three do the same: walk over the words before the cursor, stepping over options and their values, to learn which
command it is (`at`); then offer commands, options, the words that an option or argument allows, or files.
They are complete in themselves: completing a word starts no Python. Each is a text with @MARKS@ that the table fills.

bash may be that of macOS (3.2): no `mapfile`, no `compopt`, no associative arrays.
"""

from __future__ import annotations

from donjon.cli import tui
from donjon.cli.parse import MODULES, load
from donjon.cli.table import COMMANDS, GLOBAL, GROUPS, RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from donjon.cli.parse import Options
    from donjon.cli.table import Option

__all__ = ["bash", "completion", "fish", "zsh"]

BASH = """\
# Completion of donjon for bash. In ~/.bashrc: eval "$(donjon completion bash)"
_donjon() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} at="" words="" skip="" word i
    COMPREPLY=()
    # bash cuts --name=value into three words
    if [[ $current == "=" ]]; then current=""; elif [[ $before == "=" ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == "=" ]]; then skip=1; continue; fi
        if [[ $skip ]]; then skip=""; continue; fi
        case "$at $word" in
            @STEPS@
        esac
    done
    [[ $current == -* ]] && words="@GLOBAL@"
    case "$at $before/$current" in
        "-- "*) words="" ;;
        @VALUES@
        @OPTIONS@
        */-*) ;;
        @WORDS@
    esac
    # where nothing is offered, bash offers files
    [[ $words ]] && COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _donjon donjon
"""

ZSH = """\
#compdef donjon
# Completion of donjon for zsh. Save it as _donjon in a directory of $fpath.
_donjon() {
    local at="" skip="" word before=$words[CURRENT-1] i
    local -a offers
    for ((i = 2; i < CURRENT; i++)); do
        word=$words[i]
        if [[ -n $skip ]]; then skip=""; continue; fi
        case "$at $word" in
            @STEPS@
        esac
    done
    if [[ $PREFIX == --*=* ]]; then before=${PREFIX%%=*}; compset -P '*='; fi
    [[ $PREFIX == -* ]] && offers=(@GLOBAL@)
    case "$at $before/$PREFIX" in
        "-- "*) _files; return ;;
        @VALUES@
        @OPTIONS@
    esac
    if (($#offers)); then _describe -o option offers; return; fi
    case $at in
        @WORDS@
    esac
    case $at in
        @FILES@
    esac
}
if [[ $funcstack[1] == _donjon ]]; then _donjon "$@"; else compdef _donjon donjon; fi
"""

FISH = """\
# Completion of donjon for fish. Save it as ~/.config/fish/completions/donjon.fish.
# Are these words the command so far?
function __donjon_at
    set -l at ""
    set -l skip ""
    set -l words (commandline -opc)
    set -e words[1]
    for word in $words
        if test -n "$skip"
            set skip ""
            continue
        end
        switch "$at $word"
            @STEPS@
        end
        test "$at" = --; and break
    end
    test "$at" = "$argv"
end
complete -c donjon -f
complete -c donjon -n '__donjon_at --' -F
@LINES@
"""


def completion(options: Options) -> int:
    """Print the script for `options.shell`."""
    tui.write({"bash": bash, "zsh": zsh, "fish": fish}[options.shell]())
    return 0


def bash() -> str:
    """A function for bash's `complete`."""
    values = [f'{pattern}/*) words="{" ".join(_allowed(option))}" ;;' for pattern, option in _valued()]
    flags = [f'"{name} "*/-*) words="{_names(COMMANDS[name].options)} $words" ;;' for name in _with_options()]
    offers = ((name, " ".join(word for word, _ in _next(name))) for name in _places())
    words = [f'"{name} "*/*) words="{offered}" ;;' for name, offered in offers if offered]
    return _filled(
        BASH,
        GLOBAL=[_names(GLOBAL)],
        STEPS=_steps(),
        VALUES=values,
        OPTIONS=_longest_first(flags),
        WORDS=_longest_first(words),
    )


def zsh() -> str:
    """A function for zsh's `compinit`, as a file `_donjon` in $fpath or evaluated."""
    values = [f"{pattern}/*) {_zsh_value(option)}; return ;;" for pattern, option in _valued()]
    flags = [f'"{name} "*/-*) offers+=({_zsh_options(COMMANDS[name].options)}) ;;' for name in _with_options()]
    offers = ((name, _zsh_list(_next(name))) for name in _places())
    words = [f'"{name}") offers=({offered}); _describe word offers ;;' for name, offered in offers if offered]
    files = [f'"{name}") _files{_zsh_only(name)} ;;' for name in _places() if _takes_files(name)]
    return _filled(
        ZSH,
        GLOBAL=[_zsh_options(GLOBAL)],
        STEPS=_steps(),
        VALUES=values,
        OPTIONS=_longest_first(flags),
        WORDS=words,
        FILES=files,
    )


def fish() -> str:
    """Lines for fish's `complete`, each with the condition under which it counts."""
    lines = [_fish_option("complete -c donjon -n 'not __donjon_at --'", option) for option in GLOBAL]
    for name in _places():
        start = f"complete -c donjon -n {_quoted_fish(f'__donjon_at {name}'.strip())}"
        lines += [f"{start} -a {_quoted_fish(word)} -d {_quoted_fish(what)}" for word, what in _next(name)]
        lines += [f"{start} -F"] if _takes_files(name) else []
        lines += [_fish_option(start, option) for option in (COMMANDS[name].options if name in COMMANDS else ())]
    steps = [
        "case '* --'", "    set at --",
        "case " + " ".join(f"'* {name}'" for name in _names_of_valued()), "    set skip 1",
        "case '* -*'",
        *(line for name in _places() if name for line in (f"case '{_step_to(name)}'", f"    set at '{name}'")),
        "case " + " ".join(f"' *{ending}'" for ending in MODULES), f"    set at {RUN.name}",
    ]  # fmt: skip
    return _filled(FISH, STEPS=steps, LINES=lines)


def _filled(template: str, **marks: Iterable[str]) -> str:
    """Put lines in place of each mark, as far in as the mark stands."""
    for mark, lines in marks.items():
        start = template.index(f"@{mark}@")
        indent = " " * (start - template.rindex("\n", 0, start) - 1)
        template = template.replace(f"@{mark}@", f"\n{indent}".join(lines))
    return template


def _steps() -> list[str]:
    """What one word before the cursor means, for bash and zsh, as cases of "COMMAND WORD"."""
    return [
        '*" --") at="--"; break ;;',
        "|".join(f'*" {name}"' for name in _names_of_valued()) + ") skip=1 ;;",
        '*" -"*) ;;',
        *(f'"{_step_to(name)}") at="{name}" ;;' for name in _places() if name),
        "|".join(f'" "*{ending}' for ending in MODULES) + f') at="{RUN.name}" ;;',
    ]


def _step_to(name: str) -> str:
    """The last step to a command: what came before and a word, with a space between."""
    return name if " " in name else f" {name}"


def _places() -> tuple[str, ...]:
    """Where the cursor can be: before a command, inside a group, after a command."""
    return ("", *GROUPS, *COMMANDS)


def _with_options() -> list[str]:
    return [name for name, command in COMMANDS.items() if command.options]


def _longest_first(cases: list[str]) -> list[str]:
    """A pattern for "config " fits "config init " too: the first that fits counts."""
    return sorted(cases, key=lambda case: -len(case.partition('"*')[0]))


def _names(options: Iterable[Option]) -> str:
    return " ".join(option.name for option in options)


def _valued() -> list[tuple[str, Option]]:
    """Options that take a value, each with a pattern for "COMMAND OPTION"."""
    found = [(f'"{command.name} {option.name}"', option) for command in COMMANDS.values() for option in command.options]
    found += [(f'*" {option.name}"', option) for option in GLOBAL]
    return [(pattern, option) for pattern, option in found if option.value]


def _names_of_valued() -> list[str]:
    return sorted({option.name for _, option in _valued()})


def _allowed(option: Option) -> tuple[str, ...]:
    return tuple(load(option.words)) if isinstance(option.words, str) else option.words


def _next(name: str) -> list[tuple[str, str]]:
    """Words that can follow, with what they are: commands, or what the first argument allows."""
    if name in COMMANDS:
        return [(word, "") for argument in COMMANDS[name].arguments[:1] for word in argument.words]
    start = f"{name} ".lstrip()
    below = dict.fromkeys(command[len(start) :].split(" ")[0] for command in COMMANDS if command.startswith(start))
    return [(word, _summary(start + word)) for word in below]


def _summary(name: str) -> str:
    if name in COMMANDS:
        return COMMANDS[name].summary
    return "; ".join(command.summary for command in COMMANDS.values() if command.name.startswith(name + " "))


def _takes_files(name: str) -> bool:
    """Before a command a module can stand, as the short form of `run`."""
    return not name or (name in COMMANDS and any(argument.files for argument in COMMANDS[name].arguments))


def _zsh_value(option: Option) -> str:
    if _allowed(option):
        return f"compadd -- {' '.join(_allowed(option))}"
    return "_files" if option.files else f"_message {option.value.lower()}"


def _zsh_options(options: Iterable[Option]) -> str:
    return _zsh_list([(option.name, option.about) for option in options])


def _zsh_list(offers: list[tuple[str, str]]) -> str:
    return " ".join(_quoted(word + (":" + what.replace(":", "\\:") if what else "")) for word, what in offers)


def _zsh_only(name: str) -> str:
    return f" -g '*.({'|'.join(ending[1:] for ending in MODULES)})'" if name in ("", RUN.name) else ""


def _fish_option(start: str, option: Option) -> str:
    line = f"{start} -l {option.name[2:]}" + (f" -s {option.short[1:]}" if option.short else "")
    if option.value:
        line += " -r -F" if option.files else f" -x -a {_quoted_fish(' '.join(_allowed(option)))}"
    return f"{line} -d {_quoted_fish(option.about)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _quoted_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
