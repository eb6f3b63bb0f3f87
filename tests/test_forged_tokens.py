"""Control tokens of the model families in text from outside: to endpoints they go broken up, whatever tokenizer reads
them there; in a prompt rendered here no added token of the tokenizer comes of them. Ordinary text stays."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmmsearch.escaping import escape_chat_tokens, escape_observation
from deepmmsearch.prompts import load_prompt
from deepmmsearch.renderer import Renderer, messages
from deepmmsearch.testing import tiny_tokenizer
from deepmmsearch.types import Answer, Completion, Exchange, Hit, Observation, Question, TextSearch, Trajectory, Turn

pytest.importorskip("transformers")

FAMILIES = {
    "llama 2": "<s> </s> <unk> <pad> [INST] [/INST] <<SYS>> <</SYS>>",
    "llama 3, 4": "<|begin_of_text|> <|eot_id|> <|start_header_id|> <|python_tag|> <|header_start|> <|image|> <|eom|>",
    "code llama": "<PRE> <SUF> <MID> <EOT> <FILL_ME>",
    "mistral": "[INST] [/INST] [TOOL_CALLS] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [IMG] "
    "[IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT] [ARGS] [CALL_ID] "
    "[AUDIO] [BEGIN_AUDIO] [THINK] [/THINK] [TRANSCRIBE] [MODEL_SETTINGS] <SPECIAL_20>",
    "gemma": "<bos> <eos> <start_of_turn> <end_of_turn> <start_of_image> <end_of_image> <image_soft_token> <unused42> "
    "<mask> [multimodal] [@BOS@] <2mass> [toxicity=0] <audio_soft_token> <|turn> <turn|> "
    "<|channel> <channel|> <tool_call|>",
    "paligemma": "<loc0123> <seg001> <image>",
    "phi": "<|system|> <|user|> <|end|> <|assistant|> <|image_1|> <|im_sep|> <|endoftext|>",
    "qwen, chatml": "<|im_start|> <|im_end|> <|vision_start|> <|image_pad|> <tool_call> </tool_call> <tool_response> "
    "<think> </think> <|fim_prefix|> <|box_start|>",
    "qwen-vl": "<img> </img> <ref> </ref> <box> </box> <quad> </quad> <imgpad>",
    "deepseek": "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> <｜tool▁calls▁begin｜> "
    "<｜DSML｜ <|EOT|> <image_placeholder> <begin_of_image> <｜place▁holder▁no▁3｜>",
    "exaone": "[|system|] [|user|] [|assistant|] [|endofturn|] [|tool|] [BOS] [PAD]",
    "bluelm": "[|Human|] [|AI|]",
    "command r": "<BOS_TOKEN> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> "
    "<|CHATBOT_TOKEN|> <|START_THINKING|> <EOS_TOKEN>",
    "glm": "[gMASK] [sMASK] [MASK] <sop> <eop> <|user|> <|observation|> <|begin_of_image|> <arg_key> "
    "<arg_value> <|begin_of_box|>",
    "internvl": "<IMG_CONTEXT> <img> </img> <quad> <ref> <box> <|action_start|> "
    "[UNUSED_TOKEN_146] <TOKENS_UNUSED_0> <eoh> <eoa>",
    "gpt-oss": "<|start|> <|message|> <|channel|> <|call|> <|return|> <|constrain|> <|endofprompt|>",
    "kimi": "<|im_user|> <|im_middle|> <|tool_calls_section_begin|> <|media_start|> [EOS] [EOT]",
    "minicpm": "<用户> <AI> <image> </image> <slice> <unit> <image_id> <|listen|>",
    "hunyuan": "<｜hy_User｜> <｜hy_place▁holder▁no▁2｜> <|startoftext|> <|extra_4|>",
    "minimax": "<beginning_of_sentence> <end_of_sentence> ]~b] ]~!b[ [e~[ <minimax:tool_call>",
    "baichuan": "<reserved_106> <reserved_107>",
    "falcon": ">>QUESTION<< >>ANSWER<<",
    "ernie": "<|begin_of_sentence|> <mask:1> <|IMAGE_PLACEHOLDER|> <response>",
    "seed": "<seed:bos> <seed:eos> <seed:think> <seed:tool_call>",
    "nemotron": "<extra_id_0> <AVAILABLE_TOOLS> <TOOLCALL> <TOOL_RESPONSE> <SPECIAL_12>",
    "ling": "<role> </role> <|role_end|>",
    "telechat": "<_user> <_bot> <_start> <_end>",
    "skywork": "[USER] [BOT] [SEP]",
    "bert": "[CLS] [SEP] [PAD] [UNK] [MASK] [unused1]",
    "starcoder": "<fim_prefix> <fim_suffix> <filename> <reponame> <gh_stars> <issue_start> <jupyter_code> <file_sep> "
    "<repo_name> <commit_before> <pr> <empty_output>",
    "idefics": "<fake_token_around_image> <end_of_utterance> <row_1_col_2> <global-img>",
    "molmo": "<im_patch> <im_col> <im_start> <im_end> <low_res_im_start>",
    "florence": "<loc_12> <od> </od> <ocr> <region_cap> <OD> <DETAILED_CAPTION> <poly>",
    "kosmos": "<grounding> <phrase> <object> <patch_index_0001> <delimiter_of_multi_objects/>",
    "chameleon": "<racm3:break> <eoss> <reserved08706>",
    "galactica": "[START_REF] [END_REF] <work>",
    "fuyu": "|ENDOFTEXT| |SPEAKER| <0x0A>",
    "longcat": "<longcat_think> <longcat_tool_call>",
    "nvlm, vila, cogvlm": "<tile_1> <tile_global_thumbnail> <vila/video> <BOI> <EOI>",
    "minigpt, xcomposer": "<Img> <ImageHere> </Img>",
    "next-gpt, lisa, blip, ul2": "[IMG0] [AUD1] [VID2] [SEG] [ENC] [DEC] [NLU] [S2S]",
    "anygpt, baichuan-omni": "<sosp> <eosp> <soim> <eoim> <image_start_baichuan> <tts_text_bos_single>",
    "donut": "<s_docvqa> <s_answer> </s_answer> <sep/>",
    "santacoder": "<fim-prefix> <fim-middle>",
    "gemini": "<ctrl94> <ctrl95>",
    "intern-s1": "<SELFIES> </SMILES> <MOLFORMULA>",
    "granite": "<|start_of_role|> <|end_of_role|>",
}  # fmt: skip
TOKENS = list(dict.fromkeys(token for tokens in FAMILIES.values() for token in tokens.split()))
# of shapes that no family has yet
ODD = ["§§ctl§§", "@@tool", "###>", "{ctl}", "$END$", "«turn»", "--role--", "\\end", "%sys%", "%%", "\ue000x\ue001"]
ORDINARY = [
    "The <b>bold</b> tag, <i>, <em>, <a href='x'>, <div class=\"c\">, <table><tr><td>, <h1> and <br/> are HTML.",
    "std::vector<int> v; map<string, vector<T>> m; List<Image>; Box<Point>; #include <unordered_map>",
    "Berlin[1] has 3.7 million people [2], see [link](https://a.example/x_(y)) and ![alt](p.png) or [ref][1].",
    "[INSERT] [TODO] [citation needed] [sic] [...] [x] [ ] [A] [EDIT] [PDF] [2024] [Official Video] [b]BBCode[/b]",
    "a < b and c > d, a<b>c, x <- y, 1<2, if (a<b && c>d), a || b, |x|, E[|X|], x[0], m[i][j], f(x)|_0, <3, >>> p(1)",
    "R&amp;D, AT&T, &lt;3, I ♥ [1], „Zitat“, «citation», ‹ ›, 【注】, [注1], می‌خواهم, 👩\u200d🚀, naïve, Ⅷ, ½",
    "cat file | sort >> out 2>&1; git commit [--amend] <file> <directory>; Optional[str]; dict[str, int]; user@<host>",
    "| Name | Age |\n|---|---|\n| Ann | 3 |",
    "[prefix] cmd [suffix] [mask] [image] [audio] [user] [system] [think]",
]  # fmt: skip


def tokenizer(tokens: Sequence[str], special: bool = True, normalizer: Any = None) -> Any:
    """A real one that has these tokens. With a `normalizer` they are sought in what it makes of a text."""
    from tokenizers import AddedToken

    made = tiny_tokenizer()
    if normalizer is not None:
        made.backend_tokenizer.normalizer = normalizer
    made.add_tokens([AddedToken(t, special=special, normalized=normalizer is not None) for t in tokens], special)
    return made


def added(made: Any, text: str) -> list[str]:
    """The added tokens that a text becomes."""
    known = {i: str(t) for i, t in made.added_tokens_decoder.items()}
    return [known[i] for i in made.encode(text, add_special_tokens=False) if i in known]


def variants(token: str) -> list[str]:
    """Ways to write a token that some normalisation undoes."""
    wide = "".join(chr(ord(c) + 0xFEE0) if 0x21 <= ord(c) <= 0x7E else c for c in token)
    return [token, f"x{token}y", f"{token}{token}", wide, token.replace("▁", " "), token[0] + "\u200b" + token[1:],
            token[:1] + "\U000e0041" + token[1:], token.replace("<", "&lt;")]  # fmt: skip


@cache
def everything(special: bool) -> Any:
    return tokenizer([*TOKENS, *ODD], special)


@pytest.mark.parametrize("family", FAMILIES)
def test_endpoints_get_no_control_token(family: str) -> None:
    for token in FAMILIES[family].split():
        for text in variants(token):
            for sent in (escape_chat_tokens(text), escape_observation(text)):
                folded = unicodedata.normalize("NFKC", sent)
                assert token not in sent and token not in folded and token not in folded.replace(" ", "▁"), text
            assert not added(everything(True), escape_chat_tokens(f"a {text} b")), text


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_goes_to_endpoints_as_it_is(text: str) -> None:
    assert escape_chat_tokens(text) == text
    assert escape_observation(text) == text


def test_everything_that_a_model_reads_is_escaped() -> None:
    """Question, history, page and file name, as they go to an endpoint."""
    calm = added(everything(True), spoken("calm words"))
    for token in TOKENS:
        assert added(everything(True), spoken(token)) == calm, token


def spoken(said: str) -> str:
    conversation, _ = messages(played(said))
    return "\n".join(p["text"] for m in conversation for p in m["content"] if p["type"] == "text")


def played(said: str) -> Trajectory:
    """An episode that meets the text in its question, its history and what it finds."""
    question = Question("q", f"Which? {said}", history=(Exchange(f"Before: {said}", f"So: {said}"),))
    found = Observation(
        f"[1] match: A title {said}\n[2] similar: {said} [1][2]", hits=(Hit(said, "https://a.example"),)
    )
    turns = (
        Turn(Completion("<reason>r</reason><text_search>x</text_search>"), TextSearch("x"), found),
        Turn(Completion("<reason>r</reason><answer>x</answer>"), Answer("x")),
    )
    return replace(
        Trajectory(question, load_prompt("deepmmsearch-r1"), turns=turns, stop="answer"), context=(Observation(said),)
    )


@pytest.mark.parametrize("special", [True, False], ids=["special", "ordinary"])
def test_no_added_token_comes_of_text_from_outside(special: bool) -> None:
    made = everything(special)
    renderer = Renderer(made)
    calm = renderer.sequence(played("calm words"), teacher=True).ids
    known = set(made.added_tokens_decoder)
    for token in (*TOKENS, *ODD):
        ids = renderer.sequence(played(token), teacher=True).ids
        assert [i for i in ids if i in known] == [i for i in calm if i in known], token


def test_tokenizers_that_rewrite_what_they_read() -> None:
    from tokenizers import Regex, normalizers

    rewriting = {
        "NFKC": normalizers.NFKC(),
        "lower case without accents": normalizers.Sequence(
            [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
        ),
        "a mark for blanks": normalizers.Replace(" ", "▁"),
        "quotation marks as brackets": normalizers.Sequence(
            [normalizers.Replace("«", "<"), normalizers.Replace("»", ">"), normalizers.Replace("¡", "|")]
        ),
        "no blanks": normalizers.Replace(Regex(r"\s+"), ""),
        "letters spelled out": normalizers.Replace("omega", "<|im_end|>"),
    }
    tokens = ["<|im_end|>", "<turn>", "<｜end▁of▁sentence｜>", "[ctl]", "§ctl§"]
    for name, normalizer in rewriting.items():
        made = tokenizer(tokens, False, normalizer)
        renderer = Renderer(made)
        control = set(made.convert_tokens_to_ids(tokens))
        texts = [v for t in tokens for v in (*variants(t), t.upper(), " ".join(t), t.replace("e", "é"))]
        for text in (*texts, "«turn»", "«¡im_end¡»", "the omega", "the omega «turn»"):
            ids = made.encode(renderer.disarm(f"some words {text} and more"), add_special_tokens=False)
            assert not control & set(ids), (name, text)
        assert "some words" in renderer.disarm("some words <turn> and more")


def test_words_and_blanks_that_extend_a_vocabulary_stay_as_they_are() -> None:
    renderer = Renderer(tokenizer(["covid", "  ", "\n\n", "▁word"], False))
    text = "covid is a  word\n\nand so on"
    assert renderer.disarm(text) == text
    # one that is called a control token is one
    assert added(renderer.tokenizer, Renderer(tokenizer(["ENDTURN"])).disarm("an ENDTURN")) == []


def test_a_conversation_for_a_local_model() -> None:
    renderer = Renderer(tokenizer(["{ctl}"], False))
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a {ctl}"}]},
            {"role": "assistant", "content": "{ctl}"}]  # fmt: skip
    assert renderer.harmless(said) == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a { ctl}"}]},
        {"role": "assistant", "content": "{ ctl}"},
    ]
    assert said[1]["content"] == "{ctl}"


PIECES = st.sampled_from([*TOKENS, *ODD, "<", "|", "[", ">", "▁", " ", "｜", "＜", "&lt;", "\u200b", "a", "[1]", "\n"])


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_pieces_of_tokens_in_any_order(text: str) -> None:
    made = everything(True)
    assert not added(made, _renderer().disarm(escape_observation(text)))
    escaped = escape_chat_tokens(text)
    assert escape_chat_tokens(escaped) == escaped


@cache
def _renderer() -> Renderer:
    return Renderer(everything(True))
