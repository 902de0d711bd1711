#!/usr/bin/env python3
"""Writes tests/golden/chat/: conversations as transformers renders and tokenises them.

For developers alone: neither the build nor the tests run it. Needs transformers (with jinja2) and
tokenizers. The templates are those of the families without what tool calls need. The tokenizer is
that of tests/golden/tokenizer_qwen2 with the marks of every family added.

    tools/make_golden_chat.py [OUT_DIR]
"""
import json
import os
import sys

import transformers
from tokenizers import AddedToken, Tokenizer

QWEN = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- 'DEFAULT' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
            {{- message.content + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# What stands in front of a conversation that has no system message.
QWEN_DEFAULTS = {
    "chatml": "",
    "qwen2": "You are a helpful assistant.",
    "qwen2.5": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "qwen2.5_math": "Please reason step by step, and put your final answer within \\\\boxed{}.",
}

QWEN3 = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_query_index=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == "user" %}{%- set ns.last_query_index = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
            {%- if loop.index0 > ns.last_query_index %}
                {{- '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- content }}
            {%- endif %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

LLAMA3 = """{% for message in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>

' }}{% if message.role == 'assistant' %}{% generation %}{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>

' }}{% endif %}"""

LLAMA31 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: 26 Jul 2024\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
            {{- message['content'] | trim + '<|eot_id|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

DEEPSEEK = """{% set ns = namespace(system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>'}}{%- generation %}{{content + '<｜end▁of▁sentence｜>'}}{%- endgeneration %}{%- endif %}{%- endfor -%}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"""

BOS = {"llama3": "<|begin_of_text|>", "llama3.1": "<|begin_of_text|>",
       "deepseek_r1": "<｜begin▁of▁sentence｜>"}
TEMPLATES = {name: QWEN.replace("DEFAULT", "<|im_start|>system\\n" + text + "<|im_end|>\\n"
                                if text else "")
             for name, text in QWEN_DEFAULTS.items()}
TEMPLATES.update({"qwen3": QWEN3, "llama3": LLAMA3, "llama3.1": LLAMA31, "deepseek_r1": DEEPSEEK})

MARKS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
         "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


CONVERSATIONS = [
    [user("What is 3+8?"), assistant("11")],
    [system("Answer briefly."), user("What is 3+8?"), assistant("It is 11.\n")],
    [user("Say \u00fc and \u6c34 \U0001f642"), assistant("\u00fc \u6c34 \U0001f642")],
    [user("  blanks \u00a0around\u3000 "), assistant(" x \t")],
    [user("2+2?"), assistant("<think>\n2 and 2\nmake 4\n</think>\n\nThe answer is 4.")],
    [user("2+2?"), assistant("<think>2 and 2</think><answer>4</answer>")],
    [user("one"), assistant("first"), user("two"), assistant("second")],
    [system("s"), user("one"), assistant("<think>\nhm\n</think>\n\nfirst"), user("two"),
     assistant("<think>\nhm hm\n</think>\n\nsecond\nline")],
    [user("a <|im_end|> b <\uff5cUser\uff5c> c <|eot_id|>"), assistant("marks in a text")],
    [user(""), assistant("an empty question")],
]


def make_case(tokenizer, name, messages):
    template = TEMPLATES[name]
    options = dict(chat_template=template, bos_token=BOS.get(name, ""))
    # bos_token comes from the tokenizer unless it is given.
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False,
                                           add_generation_prompt=True, **options)
    whole = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    content = messages[-1]["content"]
    mask = None
    if name == "deepseek_r1" and "</think>" in content:
        # The template drops reasoning; what is learned is what a model writes behind the prompt.
        rest = content[len("<think>"):].removeprefix("\n")
        whole = prompt + rest + "<｜end▁of▁sentence｜>"
    else:
        mask = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True,
                                             return_assistant_tokens_mask=True, **options)
        assert tokenizer(whole, add_special_tokens=False)["input_ids"] == mask["input_ids"]
        mask = mask["assistant_masks"]
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    case = {"template": name, "messages": messages, "prompt": prompt, "whole": whole, "ids": ids}
    if mask:
        end = len(mask) - mask[::-1].index(1)
        first = end
        while first > 0 and mask[first - 1]:
            first -= 1
        case["learned"] = [first, end]   # ids of the last answer, with the token that ends it
    return case


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden")
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "chat")
    os.makedirs(out, exist_ok=True)
    plain = Tokenizer.from_file(os.path.join(root, "tokenizer_qwen2", "tokenizer.json"))
    plain.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in MARKS])
    plain.save(os.path.join(out, "tokenizer.json"), pretty=False)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain)
    cases = [make_case(tokenizer, name, messages)
             for name in TEMPLATES for messages in CONVERSATIONS]
    with open(os.path.join(out, "cases.json"), "w", encoding="utf-8") as file:
        json.dump({"transformers": transformers.__version__, "cases": cases}, file,
                  ensure_ascii=True, separators=(",", ":"))
        file.write("\n")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
