"""
Writes expressions.json: Jinja expressions and templates, with the text that transformers makes of them or the class of
the exception it raises. Run once with transformers 5.24.0 and Jinja 3.1.6: python make.py
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [
    {"role": "system", "content": " Be brief.\n"},
    {"role": "user", "content": "Grüße, 😀!", "name": "Ann", "score": 1.0, "big": 12345678901234567890},
    {"role": "assistant", "content": "<think>\n  so\n</think>\n\n    code\n", "tags": ["b", "a", "c", "a"], "n": -0.0},
]
VARIABLES = {
    "t": True,
    "f": False,
    "no": None,
    "i": 7,
    "x": 2.50,
    "tiny": 1e-7,
    "huge": 1e16,
    "words": "the quick  brown fox",
    "lines": "one\r\ntwo\n\n three",
    "list": [3, 1, 2],
    "mixed": ["a", True, None, 1.0, {"k": [1]}],
    "table": {"10": "ten", "2": "two", "b": {"y": 1, "x": 2}},
    "rows": [{"k": "b", "v": 1}, {"k": "a", "v": 2}, {"k": "b", "v": 3}],
    "html": "<b>\"q\" & 'a'</b>",
}

EXPRESSIONS = {
    "printing": ["t", "f", "no", "i", "x", "tiny", "huge", "list", "mixed", "table", "nothing", "'a' 'b'", "(1,)", "()", "(1, 'a')",
                 "{1: 'a', true: none}", "[[], {}, '']", "\"it's\"", "[\"it's\"]", "['\\n\\t\\\\']", "['é😀\\u0001']", "1_000", "0x1f", "1e3", "1.50",
                 "messages[1].score", "messages[1].big", "messages[2].n", "True", "None", "none", "10 ** 20", "1e400", "-1e400"],
    "arithmetic": ["7 / 2", "6 / 2", "7 // 2", "-7 // 2", "7 % 3", "-7 % 3", "7.5 % 2", "2 ** 10", "2 ** -1", "-2 ** 2", "1 + 2.0", "3 * 'ab'",
                   "'a' * 0", "[1] + [2]", "[0] * 3", "(1,) + (2,)", "'a' + 'b'", "t + 1", "+i", "-x", "0.1 + 0.2", "1 / 3", "'%s-%05.1f' % ('a', 2)",
                   "1 + 'a'", "'a' + 1", "'a' + none", "'a' + nothing", "1 / 0", "list + 'a'", "-'a'", "table + table"],
    "joining": ["'a' ~ 1 ~ 1.0 ~ true ~ none ~ nothing ~ [1]", "1 ~ 2", "messages[1].content ~ '|'", "words ~ no"],
    "comparing": ["1 == 1.0", "1 == true", "'a' == 'a'", "[1] == [1.0]", "1 != 2", "1 < 2 < 3", "3 > 2 > 2", "'a' < 'b'", "[1, 2] < [1, 3]", "none == f",
                  "1 < 'a'", "none < 1", "i >= 7", "i <= 6", "'B' < 'a'", "{'a': 1} == {'a': 1}", "nothing == none", "'1' == 1"],
    "logic": ["1 and 2", "0 or 'a'", "not 1", "not ''", "not nothing", "[] or {} or none", "1 if t", "1 if f", "1 if f else 2", "no and 1", "'' or f",
              "t and not f or no", "not 1 == 2", "1 if nothing else 2"],
    "membership": ["'a' in 'abc'", "1 in list", "'x' not in mixed", "'k' in {'k': 1}", "none in mixed", "1 in [true]", "'' in 'a'", "1 in 'a'", "'a' in nothing",
                   "'role' in messages[0]", "1 in 5"],
    "parts": ["list[0]", "list[-1]", "list[5]", "list[1:]", "list[::-1]", "list[:2]", "list[5:]", "words[4:9]", "words[::-1]", "words[0]", "words[-3:]", "words[::2]",
              "messages[1]['name']", "messages[1].name", "messages[1].nope", "messages[1]['nope']", "messages[-1].role", "table['10']", "table.b.x", "table[10]",
              "{1: 'a'}[1]", "{1: 'a'}['1']", "nothing.part", "nothing['part']", "none.part", "i.part", "list.first", "messages[9]", "messages[9].role", 
              "table.keys()|list", "messages[1:]|length", "'😀é'[0]", "'😀é'|length", "x.real", "list['0']", "{'items': 1}['items']"],
    "text methods": ["' a '.strip()", "'xxaxx'.strip('x')", "'abcab'.lstrip('ab')", "'abcba'.rstrip('ab')", "'a,b,,c'.split(',')", "' a  b '.split()", "'a,b,c'.split(',', 1)",
                     "'a,b,c'.rsplit(',', 1)", "'abc'.split('')", "lines.splitlines()", "lines.splitlines(true)", "'abc'.upper()", "'ABC ß'.lower()", "'ß'.upper()",
                     "\"they're here\".title()", "'aBC d'.capitalize()", "'aBc'.swapcase()", "'ß'.casefold()", "'a-b-a'.replace('a', 'x')",
                     "'aaa'.replace('a', 'b', 2)", "'abc'.startswith('ab')", "'abc'.startswith(('x', 'a'))", "'abc'.endswith('bc', 1)", "'abcabc'.find('c')", "'abc'.find('x')",
                     "'abcabc'.rfind('c')", "'abc'.index('b')", "'abc'.index('x')", "'abcabc'.count('bc')", "','.join(['a', 'b'])", "','.join([1])", "'{} {1}'.format(1, 2)",
                     "'{} {}'.format(1, 'b')", "'{0:>5}|{n:05.2f}'.format('a', n=1.5)", "'{0.real}'.format(1)", "'{0.__class__}'.format(1)", "'a'.center(5, '*')", "'a'.ljust(3) ~ '|'",
                     "'a'.rjust(3)", "'7'.zfill(3)", "'-7'.zfill(4)", "'12'.isdigit()", "'²'.isdigit()", "'ab1'.isalnum()", "'ab'.isalpha()", "' '.isspace()", "'A'.isupper()", "'a'.islower()",
                     "'A B'.istitle()", "'1.5'.isdecimal()", "'½'.isnumeric()", "'a_1'.isidentifier()", "'a=b=c'.partition('=')", "'a=b=c'.rpartition('=')", "'prefix-a'.removeprefix('prefix-')",
                     "'a.txt'.removesuffix('.txt')", "'a\\tb'.expandtabs(4)", "'é'.encode()", "'abc'.translate({97: 'x'})", "'a'.nope()", "'abc'.isascii()", "'{x}'.format_map({'x': 1})",
                     "messages[2].content.split('</think>')[-1].lstrip('\\n')", "'a'.isprintable()", "''.join(reversed)", "'a\\x0bb\\u2028c'.splitlines()"],
    "list and dictionary methods": ["list.index(1)", "list.count(1)", "list.index(9)", "list.copy()", "list.append(1)", "list.pop()", "list.sort()", "table.get('2')", "table.get('z')",
                     "table.get('z', 'd')", "table.items()|list", "table.values()|list", "table.keys()", "table.items()", "table.values()", "table.pop('2')", "table.update({'a': 1})",
                     "table.copy()", "(1, 2).count(1)", "(1, 2).index(2)", "x.is_integer()", "i.bit_length()", "x.hex()", "dict(a=1, b=2)", "dict([('a', 1)])", "dict.fromkeys(['a'], 1)",
                     "dict(table, c=1)", "5 .bit_count()", "table.setdefault('q', 1)", "list.__class__", "messages.__len__()", "''.__class__.__mro__"],
    "filters": ["-3|abs", "list|attr('append')", "[1,2,3,4,5]|batch(2)|list", "[1,2,3]|batch(2, 'x')|list", "'aBC'|capitalize", "'a'|center(5)", "list|count", "nothing|default('d')", "''|default('d')",
                "''|default('d', true)", "no|d('d')", "{'b': 1, 'A': 2}|dictsort", "{'b': 1, 'a': 2}|dictsort(by='value', reverse=true)", "html|e", "html|escape", "1000000|filesizeformat",
                "1048576|filesizeformat(true)", "list|first", "[]|first", "'3.7'|float", "'z'|float", "'z'|float(1.5)", "html|forceescape", "'%s is %d'|format('a', 3)",
                "rows|groupby('k')", "rows|groupby('k')|map(attribute='grouper')|list", "'a\nb\n\nc'|indent", "'a\nb'|indent(2, true)", "'a\n\nb'|indent(2, blank=true)", "'a\nb'|indent('> ')",
                "'42'|int", "'0x1f'|int(0, 16)", "'z'|int", "'z'|int(5)", "3.9|int", "'3.9'|int", "table|items|list", "nothing|items|list", "list|join", "list|join('-')", "rows|join(',', attribute='k')",
                "[1, none, 'a']|join('|')", "list|last", "''|last", "words|length", "nothing|length", "no|length", "i|length", "table|length", "'abc'|list", "table|list", "nothing|list", "no|list", "'ÀB'|lower", "1|lower", "rows|map(attribute='v')|list",
                "rows|map(attribute='z', default=0)|list", "['a', 'b']|map('upper')|list", "['a,b']|map('split', ',')|list", "list|max", "['a', 'B']|max", "['a', 'B']|max(case_sensitive=true)", "rows|max(attribute='v')", "list|min",
                "[]|min", "table|pprint", "mixed|pprint", "list|reject('odd')|list", "[0, 1, '']|reject|list", "rows|rejectattr('v', 'gt', 1)|list", "'aaa'|replace('a', 'b')", "'aaa'|replace('a', 'b', 2)", "1|replace(1, 2)",
                "'abc'|reverse", "list|reverse|list", "2.675|round(2)", "2.5|round", "3.5|round", "-2.5|round", "42.55|round(1, 'floor')", "42.51|round(0, 'ceil')", "1234|round(-2)", "html|safe", "[0, 1, 'a', none]|select|list", "list|select('>', 1)|list",
                "list|select('divisibleby', 3)|list", "rows|selectattr('k', 'equalto', 'b')|list", "rows|selectattr('v')|map(attribute='v')|sum", "[1,2,3,4,5]|slice(2)|list", "[1,2,3]|slice(2, 0)|list", "list|sort", "list|sort(reverse=true)", "['b', 'A', 'a']|sort",
                "['b', 'A', 'a']|sort(case_sensitive=true)", "rows|sort(attribute='k,v')", "[1, 'a']|sort", "t|string", "no|string", "1.0|string", "mixed|string", "nothing|string", "'<b>a  b</b> c'|striptags", "list|sum", "rows|sum(attribute='v')", "list|sum(start=10)",
                "['a']|sum", "\"they're a-b c\"|title", "' a '|trim", "'xxaxx'|trim('x')", "none|trim", "1|trim", "words|truncate(9)", "words|truncate(9, true)", "words|truncate(9, true, '')", "'abc'|truncate(2, leeway=0)", "['a', 'A', 'b']|unique|list",
                "['a', 'A']|unique(case_sensitive=true)|list", "'straße'|upper", "none|upper", "{'a b': 'é&'}|urlencode", "'a b/é'|urlencode", "'see http://a.example/x'|urlize", "words|wordcount", "words|wordwrap(6)", "'abcdefgh'|wordwrap(3)",
                "{'a': '<1>', 'b': none}|xmlattr", "words|nope", "'a'|map('nope')|list", "1|first", "list|join(1)", "'a'|e|length", "html|e|upper", "list|batch(0)|list"],
    "tojson": ["mixed|tojson", "table|tojson", "'é😀\\u2028'|tojson", "html|tojson", "x|tojson", "1.0|tojson", "tiny|tojson", "huge|tojson", "messages[1].big|tojson", "(1, 2)|tojson", "{1: 2}|tojson", "{none: 1, true: 2}|tojson",
               "table|tojson(indent=2)", "[]|tojson(indent=4)", "{}|tojson(indent=2)", "[[], {}]|tojson(indent=1)", "table|tojson(sort_keys=true)", "list|tojson(separators=(',', ':'))", "'é'|tojson(ensure_ascii=true)", "'😀'|tojson(ensure_ascii=true)",
               "nothing|tojson", "list|reverse|tojson", "1e400|tojson", "'\\x7f\\x1f\"\\\\'|tojson", "messages[1]|tojson", "table.items()|list|tojson", "table|tojson(true)", "list|tojson(indent='\\t')", "-0.0|tojson"],
    "tests": ["t is boolean", "1 is boolean", "dict is callable", "nothing is defined", "no is defined", "messages[1].nope is defined", "6 is divisibleby 3", "6 is divisibleby(4)", "2 is eq 2", "2 is equalto 2.0", "html|e is escaped", "html is escaped", "4 is even",
              "f is false", "no is false", "0 is false", "'upper' is filter", "'nope' is filter", "1.0 is float", "1 is float", "3 is ge 3", "3 is gt 3", "3 is greaterthan 2", "1 is in list", "'a' is in 'abc'", "1 is integer", "t is integer", "1.0 is integer", "'a' is iterable",
              "1 is iterable", "nothing is iterable", "no is iterable", "table is iterable", "3 is le 3", "3 is lt 4", "3 is lessthan 3", "'abc' is lower", "table is mapping", "list is mapping", "1 is ne 2", "no is none", "nothing is none", "f is not none", "1 is number", "1.5 is number", "t is number",
              "'1' is number", "3 is odd", "no is sameas none", "1 is sameas true", "list is sequence", "'a' is sequence", "table is sequence", "1 is sequence", "nothing is sequence", "range(2) is sequence", "'a' is string", "html|safe is string", "1 is string", "'odd' is test", "t is true", "1 is true",
              "nothing is undefined", "no is undefined", "'ABC' is upper", "1 is nope", "'a' is not string", "1 is == 1", "2 is >= 3", "'b' is odd"],
    "calls": ["range(3)|list", "range(3)", "range(1, 7, 2)|list", "range(5, 0, -2)|list", "range(0)|list", "range(1, 2, 0)|list", "range(1.5)|list", "range('a')|list", "range(100001)|length", "range(100000)|length", "nothing()", "i()", "namespace(a=1).a", "namespace(a=1)",
              "namespace({'a': 1}).a", "namespace(_a=1)", "cycler('a', 'b').next()", "raise_exception('no')", "raise_exception(1)", "self", "loop", "dict()", "caller", "len(list)", "str(1)", ],
}

TEMPLATES = {
    "loops": "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{{ loop.previtem.role }}{{ loop.nextitem.role }}{{ loop.changed(m.role) }};{% endfor %}",
    "loop over a string": "{% for c in messages[1].content %}[{{ c }}]{% endfor %}",
    "loop over a dictionary": "{% for k in table %}{{ k }},{% endfor %}{% for k, v in table.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in table|dictsort %}{{ k }}{% endfor %}",
    "loop with a condition and else": "{% for n in list if n > 1 %}{{ n }}{{ loop.index }}{% else %}none{% endfor %}{% for n in [] %}{% else %}none{% endfor %}{% for n in list if n > 9 %}{% else %}none{% endfor %}",
    "loop over nothing": "{% for n in nothing %}x{% else %}none{% endfor %}",
    "loop over none": "{% for n in no %}x{% endfor %}",
    "loop over a number": "{% for n in 3 %}x{% endfor %}",
    "loop that goes down": "{% for row in [[1, [2, [3]]]] recursive %}{% for v in row %}{% if v is number %}{{ v }}{% else %}({{ loop(v) }}){% endif %}{% endfor %}{% endfor %}",
    "break and continue": "{% for n in range(9) %}{% if n == 2 %}{% continue %}{% endif %}{% if n == 5 %}{% break %}{% endif %}{{ n }}{% endfor %}",
    "unpacking": "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = 'xy' %}{{ c }}{{ d }}",
    "unpacking too few": "{% for a, b in [(1,)] %}{% endfor %}",
    "scope of a loop": "{% set s = 'out' %}{% for n in [1] %}{% set s = 'in' %}{{ s }}{% endfor %}{{ s }}",
    "scope of a condition": "{% if t %}{% set s = 'in' %}{% endif %}{{ s }}",
    "namespace": "{% set ns = namespace(n=0, seen=false) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if m.role == 'user' %}{% set ns.seen = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.seen }}",
    "namespace with an underscore": "{% set ns = namespace() %}{% set ns._a = 1 %}",
    "attribute of what is no namespace": "{% set table.a = 1 %}",
    "set block": "{% set s %}a{{ i }}b{% endset %}{{ s }}{{ s|length }}{% set u | upper %}abc{% endset %}{{ u }}",
    "macro": "{% macro m(a, b='d', c=none) %}[{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ m(1) }}{{ m(1, c=2) }}{{ m(1, 2, 3, 4) }}{{ m(z=1) }}{{ m.name }}{{ m.arguments }}",
    "macro with too much": "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "call block": "{% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(3) %}{{ y }}{{ i }}{% endcall %}",
    "macro sees its own variables": "{% set s = 1 %}{% macro m() %}{{ s }}{{ q }}{% endmacro %}{% for q in [2] %}{{ m() }}{% endfor %}",
    "recursive macro": "{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "filter block": "{% filter upper %}a{{ 'b' }}{% endfilter %}{% filter indent(2) %}a\nb{% endfilter %}",
    "with": "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "raw and comments": "{% raw %}{{ x }}{% y %}{% endraw %}{# {{ nothing.at }} #}a{#- b -#} c",
    "generation": "{% for m in messages %}{% generation %}{% set q = 1 %}{{ m.role }}{% endgeneration %}{{ q }};{% endfor %}",
    "autoescape": "{% autoescape true %}{{ html }}{% endautoescape %}{{ html }}",
    "block": "{% block b %}{{ i }}{% endblock %}{{ self.b() }}",
    "do": "{% do list.append(1) %}",
    "trans": "{% trans %}a{% endtrans %}",
    "white space": "a\n  {% if t %}\n  b\n  {% endif %}\n{{ i }}\n  {#- c #}\n\t{%- if t -%}\n x \n {%- endif +%}\n  {%+ if t %}y{% endif %}\n",
    "white space at the end": "{{ i }}\n\n",
    "line breaks": "a\r\nb\rc{% if t %}\r\nd{% endif %}\r\n",
    "line break in a string": "{{ 'a\r\nb'|length }}",
    "elif": "{% if f %}1{% elif i > 5 %}2{% elif t %}3{% else %}4{% endif %}",
    "condition without else": "{{ 'a' if f }}{{ ('a' if f) is defined }}",
    "filters bind first": "{{ -1|abs }}{{ 'a' ~ 'b'|upper }}{{ 2 * 3|string }}{{ not t|string }}",
    "tests bind": "{{ not i is defined }}{{ i is defined and i is odd }}{{ i is not divisibleby 2 }}{{ 1 if i is number else 2 }}",
    "a filter that is not there, and not reached": "{% if f %}{{ i|nope }}{% endif %}ok",
    "a filter that is not there, and reached": "{% if t %}{{ i|nope }}{% endif %}ok",
    "include": "{% include 'a' %}",
    "import": "{% import 'a' as a %}",
    "from": "{% from 'a' import b %}",
    "extends": "{% extends 'a' %}",
    "unclosed": "{% if t %}",
    "no expression": "{{ }}",
    "bad character": "{{ 1 ? 2 }}",
    "else of nothing": "{% else %}",
    "keyword": "{% set true = 1 %}{{ true }}",
    "changing an argument": "{% set x = messages[0].update({'role': 'x'}) %}{{ messages[0].role }}",
    "strftime": "{{ strftime_now('%%') }}{{ strftime_now('%Y')|length }}{{ strftime_now('%B') in ['January','February','March','April','May','June','July','August','September','October','November','December'] }}",
    "documents, tools and the rest": "{{ documents }}{{ tools }}{{ add_generation_prompt }}{{ bos_token }}{{ messages|length }}",
}
CONTINUED = {
    "kept": "{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "trimmed": "{% for m in messages %}<{{ m.content|trim }}>{% endfor %}",
    "in capitals": "{% for m in messages %}<{{ m.content|upper }}>{% endfor %}",
    "left out": "{% for m in messages if m.role == 'user' %}<{{ m.content }}>{% endfor %}",
    "changed": "{% for m in messages %}<{{ m.content|replace('code', 'text') }}>{% endfor %}",
    "not named": "{% for m in messages %}<{{ m.role }}>{% endfor %}",
    "split": "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}",
    "as JSON": "{% for m in messages %}{{ m.content|tojson }}{% endfor %}",
}


def rendered(template, continued=False):
    try:
        [text], _ = render_jinja_template(
            [MESSAGES],
            chat_template=template,
            add_generation_prompt=not continued,
            continue_final_message=continued,
            bos_token="<s>",
            **VARIABLES,
        )
        return {"template": template, "text": text}
    except Exception as error:
        return {"template": template, "error": type(error).__name__}


golden = {
    "about": "Made by make.py with transformers 5.24.0: text, or the class of the exception",
    "messages": MESSAGES,
    "variables": VARIABLES,
    "groups": {
        **{name: [rendered("{{ " + each + " }}") for each in all] for name, all in EXPRESSIONS.items()},
        "statements": [rendered(each) for each in TEMPLATES.values()],
    },
    "continued": [rendered(each, continued=True) for each in CONTINUED.values()],
}
Path(__file__).with_name("expressions.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
