//! LLaVA's conversation templates as data: those of `llava/conversation.py` in LLaVA and LLaVA-NeXT, of LLaVA's first
//! release, and of LLaVA-Med where they differ.

use super::conversation::{Conversation, Style};

const HUMAN_SYSTEM: &str = "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the human's questions.";
const USER_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";
// LLaVA joins the two sentences without a space.
const MMTAG_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant is able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.The visual content will be provided with the following format: <Image>visual content</Image>.";
const LLAMA_2_SYSTEM: &str = "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. If you don't know the answer to a question, please don't share false information.";
const LLAVA_LLAMA_2_SYSTEM: &str = "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.";
const MPT_SYSTEM: &str = "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.";
const CHATML_DIRECT_SYSTEM: &str = "<|im_start|>system\nAnswer the questions.";
const SIMPLE_SYSTEM: &str = "Answer the questions about the visual content that the user provides.";
// As above, LLaVA joins the two sentences without a space; so do the systems of the first release.
const SIMPLE_MMTAG_SYSTEM: &str = "Answer the questions about the visual content that the user provides.The visual content will be provided with the following format: <Image>visual content</Image>.";
const ORCA_SYSTEM: &str = "<|im_start|>system\nYou are MistralOrca, a large language model trained by Alignment Lab AI. Write out your reasoning step-by-step to be sure you get the right answers!";
const ZEPHYR_SYSTEM: &str = "<|system|>\nYou are a helpful AI assistant.";
const QWEN_SYSTEM: &str = "<|im_start|>system\nYou are a helpful assistant.";
const QWEN_2_5_SYSTEM: &str = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
const FIRST_SYSTEM: &str = "You are LLaVA, a large language model trained by UW Madison WAIV Lab, based on LLaMA architecture.You are designed to assist human with a variety of tasks using natural language.Follow the instructions carefully.";

const GREETING_EXAMPLE: &[&str] = &["Hi!", "Hi there!  How can I help you today?\n"];

const RENEWABLE_EXAMPLE: &[&str] = &[
    "What are the key differences between renewable and non-renewable energy sources?",
    "Renewable energy sources are those that can be replenished naturally in a relatively short amount of time, such as solar, wind, hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, are finite and will eventually be depleted, such as coal, oil, and natural gas. Here are some key differences between renewable and non-renewable energy sources:\n1. Availability: Renewable energy sources are virtually inexhaustible, while non-renewable energy sources are finite and will eventually run out.\n2. Environmental impact: Renewable energy sources have a much lower environmental impact than non-renewable sources, which can lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n3. Cost: Renewable energy sources can be more expensive to initially set up, but they typically have lower operational costs than non-renewable sources.\n4. Reliability: Renewable energy sources are often more reliable and can be used in more remote locations than non-renewable sources.\n5. Flexibility: Renewable energy sources are often more flexible and can be adapted to different situations and needs, while non-renewable sources are more rigid and inflexible.\n6. Sustainability: Renewable energy sources are more sustainable over the long term, while non-renewable sources are not, and their depletion can lead to economic and social instability.\n",
];

const PLAIN: Conversation = Conversation {
    name: "plain",
    style: Style::Plain,
    system: "",
    user: "",
    assistant: "",
    separator: "\n",
    second_separator: None,
    examples: &[],
    first_release: false,
    answer_prefixes: &[],
};

const fn single(name: &'static str, system: &'static str, examples: &'static [&'static str]) -> Conversation {
    Conversation {
        name,
        style: Style::Single,
        system,
        user: "Human",
        assistant: "Assistant",
        separator: "###",
        examples,
        ..PLAIN
    }
}

/// As the first release's scripts ask: the image after the question, and no role for the answer.
const fn first_release(name: &'static str, system: &'static str, answer_prefixes: &'static [&'static str]) -> Conversation {
    Conversation { first_release: true, answer_prefixes, ..single(name, system, GREETING_EXAMPLE) }
}

const fn two(name: &'static str, system: &'static str) -> Conversation {
    Conversation {
        name,
        style: Style::Two,
        system,
        user: "USER",
        assistant: "ASSISTANT",
        separator: " ",
        second_separator: Some("</s>"),
        ..PLAIN
    }
}

const fn mpt(name: &'static str, system: &'static str) -> Conversation {
    Conversation {
        name,
        style: Style::Mpt,
        system,
        user: "<|im_start|>user\n",
        assistant: "<|im_start|>assistant\n",
        separator: "<|im_end|>",
        ..PLAIN
    }
}

const fn chat_ml(name: &'static str, system: &'static str) -> Conversation {
    Conversation {
        name,
        style: Style::ChatMl,
        system,
        user: "<|im_start|>user",
        assistant: "<|im_start|>assistant",
        separator: "<|im_end|>",
        ..PLAIN
    }
}

const fn llama_2(name: &'static str, system: &'static str, separator: &'static str) -> Conversation {
    Conversation { style: Style::Llama2, separator, ..two(name, system) }
}

const fn plain(name: &'static str) -> Conversation {
    Conversation { name, ..PLAIN }
}

/// All templates, in no order that means anything.
pub(super) static CONVERSATIONS: [Conversation; 31] = [
    plain("plain"),
    single("llava_v0", HUMAN_SYSTEM, &[]),
    two("llava_v1", HUMAN_SYSTEM),
    two("vicuna_v1", USER_SYSTEM),
    // Below: the other names of `conv_templates`. `default` and `v0` carry a worked example, `llava_v0` does not.
    single("default", HUMAN_SYSTEM, RENEWABLE_EXAMPLE),
    single("v0", HUMAN_SYSTEM, RENEWABLE_EXAMPLE),
    two("v1", USER_SYSTEM),
    plain("v0_plain"),
    single("v0_mmtag", MMTAG_SYSTEM, &[]),
    two("v1_mmtag", MMTAG_SYSTEM),
    llama_2("llama_2", LLAMA_2_SYSTEM, "<s>"),
    llama_2("llava_llama_2", LLAVA_LLAMA_2_SYSTEM, "<s>"),
    llama_2("mistral_instruct", "", ""),
    mpt("chatml_direct", CHATML_DIRECT_SYSTEM),
    mpt("mistral_direct", CHATML_DIRECT_SYSTEM),
    mpt("mpt", MPT_SYSTEM),
    // Below: what LLaVA-NeXT has besides.
    single("llava_v0_mmtag", MMTAG_SYSTEM, &[]),
    two("llava_v1_mmtag", MMTAG_SYSTEM),
    llama_2("llava_llama_2_simple", SIMPLE_SYSTEM, "<s>"),
    llama_2("llava_llama_2_mmtag", SIMPLE_MMTAG_SYSTEM, "<s>"),
    llama_2("llava_mistral_instruct", "", ""),
    mpt("mistral_orca", ORCA_SYSTEM),
    Conversation { user: "<|user|>\n", assistant: "<|assistant|>\n", separator: "</s>", ..mpt("mistral_zephyr", ZEPHYR_SYSTEM) },
    Conversation {
        style: Style::Llama3,
        user: "user",
        assistant: "assistant",
        separator: "<|eot_id|>",
        ..two("llava_llama_3", LLAVA_LLAMA_2_SYSTEM)
    },
    chat_ml("qwen_1_5", QWEN_SYSTEM),
    chat_ml("qwen_2", QWEN_SYSTEM),
    chat_ml("qwen_2_5", QWEN_2_5_SYSTEM),
    Conversation {
        style: Style::Gemma,
        user: "<start_of_turn>user\n",
        assistant: "<start_of_turn>model\n",
        separator: "<end_of_turn>\n",
        ..mpt("gemma_instruct", "")
    },
    // `simple` of LLaVA's first release and of LLaVA-Med v1.0, which is built on it, with different system texts.
    first_release("simple", FIRST_SYSTEM, &["###", "Assistant:", "Response:"]),
    first_release("llava_med_simple", HUMAN_SYSTEM, &[]),
    // `vicuna_v1` of LLaVA-Med v1.5 strips texts, and joins turns by another space.
    Conversation { style: Style::TwoStripped, ..two("llava_med_vicuna_v1", USER_SYSTEM) },
];
