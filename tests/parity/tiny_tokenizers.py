"""Small tokenizers of the kinds that LLaVA checkpoints have."""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "A chat between a curious user and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "USER: What is in the image? ASSISTANT: Is there a red circle in the picture? yes no",
    "Answer the question using a single word or phrase.",
    "How many blue squares are there? one two three four five six seven eight nine ten",
    "Please provide the bounding box coordinate of the region this sentence describes: the green triangle.",
]

# Beginning and end of a sequence first, then what the templates write.
SPECIAL_TOKENS = {
    "llama": ["<s>", "</s>"],
    "qwen": ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
    "llama3": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
}


def end_of_sequence(tokenizer, kind):
    return tokenizer.token_to_id(SPECIAL_TOKENS[kind][1])


def beginning_of_sequence(tokenizer, kind):
    return None if kind == "qwen" else tokenizer.token_to_id(SPECIAL_TOKENS[kind][0])


def make_word_tokenizer(image_token):
    """A few kilobytes smaller than any tokenizer that can spell: for tests that never decode."""
    words = ["<unk>", "<s>", "</s>", "user", ":", "what", "is", "in", "the", "image", "assistant", "yes", "no"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return finish_tokenizer(tokenizer, image_token)


def make_byte_level_tokenizer(words, image_token, kind):
    """As those of Qwen (no beginning-of-sequence token) and LLaMA-3 (one that the post-processor adds)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=words, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([sentence + "\nsystem user assistant" for sentence in SENTENCES * 3], trainer)
    tokenizer.add_special_tokens(SPECIAL_TOKENS[kind])
    if kind == "llama3":
        begin = SPECIAL_TOKENS[kind][0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    if image_token:
        tokenizer.add_special_tokens(["<image>"])
    return tokenizer


def make_tokenizer(words, image_token, kind="llama", start_end=False):
    if kind != "llama":
        return make_byte_level_tokenizer(words, image_token, kind)
    if words < 259:
        return make_word_tokenizer(image_token)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=words, special_tokens=special, show_progress=False)
    # Training sees words apart, as the vocabularies of LLaMA do; the tokenizer itself has no pre-tokenizer.
    text = ["▁" + word for sentence in SENTENCES * 3 for word in sentence.split(" ")]
    plain = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    plain.train_from_iterator(text, trainer)
    model = json.loads(plain.to_str())["model"]
    state = json.loads(tokenizer.to_str())
    state["model"] = model
    return finish_tokenizer(Tokenizer.from_str(json.dumps(state)), image_token, start_end)


def finish_tokenizer(tokenizer, image_token, start_end=False):
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    if image_token:
        tokenizer.add_special_tokens(["<image>", "<pad>"])
    if start_end:
        tokenizer.add_special_tokens(["<im_patch>", "<im_start>", "<im_end>"])
    return tokenizer
