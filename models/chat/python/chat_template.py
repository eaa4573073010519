"""Renders chat templates with Jinja, set up as `apply_chat_template` of Hugging Face transformers 5 sets it up."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from content_parts import reads_content_parts

# Stands behind the text of a message that is to be continued. The space shows whether the template trims the text.
CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG "
LONGEST_SENTENCE = 500
LONGEST_GREETING = 1 << 20


class Refused(TemplateError):
    """The template raised an exception of its own about the conversation, or it cannot be rendered for this one."""


class Unsupported(Exception):
    """Jinja cannot compile the template, or the template needs what a chat template cannot have."""


class TooLong(Exception):
    """The text is longer than the caller allows."""


class Generation(Extension):
    """`{% generation %}` marks what an assistant says. It changes no text, but it is a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller):
        return caller()


class Dict:
    """`dict` for templates: it makes dictionaries and has none of the type's attributes."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(Namespace):
    """`namespace` for templates: names that begin with an underscore cannot be set."""

    def __init__(*args, **kwargs):
        self, *given = args
        values = dict(*given, **kwargs)
        for name in values:
            _refuse_underscore(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        _refuse_underscore(name)
        Namespace.__setitem__(self, name, value)


def _refuse_underscore(name):
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have {name!r}, which begins with an underscore")


def _tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message):
    raise Refused(message)


def _strftime_now(format):
    return datetime.now().strftime(format)


def _environment():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": Dict(),
        "namespace": TemplateNamespace,
    }
    return environment


ENVIRONMENT = _environment()
FILE_STATEMENTS = {nodes.Extends: "extends", nodes.Include: "include", nodes.Import: "import", nodes.FromImport: "from"}


@dataclass(frozen=True)
class ChatTemplate:
    source: str
    jinja: Template
    # Whether it takes a message's content as a list of parts, and not only as a string.
    reads_parts: bool
    knows_developers: bool


@lru_cache(maxsize=16)
def compile_template(source):
    """@throws Unsupported naming the construct."""
    try:
        parsed = ENVIRONMENT.parse(source)
        for kind, tag in FILE_STATEMENTS.items():
            if found := parsed.find(kind):
                raise Unsupported(f"{{% {tag} %}} needs other files, which it has none of (line {found.lineno})")
        return ChatTemplate(source, ENVIRONMENT.from_string(source), reads_content_parts(parsed), "developer" in source)
    except TemplateSyntaxError as error:
        raise Unsupported(f"{error.message} (line {error.lineno})") from error
    except (Unsupported, MemoryError):
        raise
    except Exception as error:
        raise Unsupported(_sentence(error)) from error


def check(source):
    """What compiling comes to: ("accepted", ""), or why not as `render` says it."""

    def compiled():
        compile_template(source)
        return "accepted", ""

    return _outcome(compiled)


def render(source, messages, variables, add_generation_prompt, continue_final_message, longest):
    """
    What rendering comes to: ("text", text), or why there is none: "refused" by the template, "unsupported", "exhausted"
    where memory is at its end, or "failed".

    `messages` is the JSON text of a list, `variables` that of an object with the special tokens and `tools` in it, and
    `longest` the most characters that the text may have.
    """

    def rendered():
        template = compile_template(source)
        values = json.loads(variables)
        asked = add_generation_prompt, continue_final_message, longest
        try:
            return "text", _render(template, json.loads(messages), values, *asked)
        except (Refused, TooLong, MemoryError):
            raise
        except Exception as error:
            if not _renders_greeting(template, values):
                raise
            raise Refused(_sentence(error)) from error

    return _outcome(rendered)


def _renders_greeting(template, variables):
    """Whether a template that has failed renders the plainest conversation, so that it failed for what it was given."""
    try:
        _render(template, [{"role": "user", "content": "Hello"}], variables, True, False, LONGEST_GREETING)
    except Exception:
        return False
    return True


def _render(template, messages, variables, add_generation_prompt, continue_final_message, longest):
    messages = [_as_template_reads(message, template) for message in messages]
    last = _mark_last(messages, template) if continue_final_message else None
    context = template.jinja.new_context(
        {"documents": None, "tools": None}
        | variables
        | {"messages": messages, "add_generation_prompt": add_generation_prompt}
    )
    pieces, length = [], 0
    for piece in template.jinja.root_render_func(context):
        pieces.append(piece)
        length += len(piece)
        if length > longest:
            raise TooLong(f"it makes a text of more than {longest} characters")
    text = "".join(pieces)
    return text if last is None else _up_to_mark(text, last)


def _as_template_reads(message, template):
    """
    A message as a template expects it. What is null counts as left out, but for content: beside calls of tools it is none,
    and alone it is the empty text, which a template would otherwise write as "None".
    """
    read = {name: value for name, value in message.items() if value is not None or name == "content"}
    if read["role"] == "developer" and not template.knows_developers:
        read["role"] = "system"
    if read["role"] == "function":  # what "tool" was called before
        read["role"] = "tool"
    if isinstance(content := read.get("content"), list):
        parts = [_as_part(part) for part in content]
        read["content"] = parts if template.reads_parts else "\n".join(part["text"] for part in parts)
    thought = next((read[name] for name in ("reasoning_content", "thinking", "reasoning") if name in read), None)
    if thought is not None:
        read = {"thinking": thought} | read | {"reasoning_content": thought}
    if calls := read.pop("tool_calls", None):
        read["tool_calls"] = [_as_call(call) for call in calls]
    elif read.get("content", "") is None:
        read["content"] = ""
    return read


def _as_part(part):
    return {"type": "text", "text": part["refusal"]} if part["type"] == "refusal" else part


def _as_call(call):
    """Templates want the arguments as values. OpenAI's clients send them as JSON text, where "" stands for none."""
    function = call["function"]
    if isinstance(text := function["arguments"], str):
        function = function | {"arguments": json.loads(text) if text.strip() else {}}
    return {"type": "function"} | call | {"function": function}


def _mark_last(messages, template):
    """Puts the mark behind the text of the last message, which is returned as it was."""
    last = messages[-1] if messages else {}
    content = last.get("content")
    if "content" not in template.source or content is None:
        raise Refused("there is no content in the last message that the template could continue")
    if isinstance(content, str):
        last["content"] = content + CONTINUED
        return content
    part = next((part for part in reversed(content) if "text" in part), None)
    if part is None:
        raise Refused("there is no text in the last message that the template could continue")
    text = part["text"]
    part["text"] = text + CONTINUED
    return text


def _up_to_mark(text, last):
    mark = CONTINUED.strip()
    at = text.rfind(mark)
    if at == -1 or last.strip() not in text:
        raise Refused("the template leaves out the message that is to be continued, or changes it")
    return text[:at] if text.startswith(CONTINUED, at) else text[:at].rstrip()


def _outcome(work):
    try:
        return work()
    except Unsupported as error:
        return "unsupported", str(error)[:LONGEST_SENTENCE]
    except Refused as error:
        return "refused", str(error)[:LONGEST_SENTENCE]
    except MemoryError:
        return "exhausted", "it takes more memory than there is for it"
    except Exception as error:
        return "failed", _sentence(error)


def _sentence(error):
    text = str(error)[:LONGEST_SENTENCE]
    return text if isinstance(error, (TemplateError, TooLong)) else f"{type(error).__name__}: {text}"
