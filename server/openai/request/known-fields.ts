/** A field of somebody's vocabulary that would change the answer, and that this server does not have. */
export interface RefusedField {
  /** What it asks for, as the end of a sentence. */
  readonly asks: string;
  /** Values that ask for nothing, and are taken. null always does. */
  readonly nothing: readonly unknown[];
  /** The fields that switch it on. It has no meaning beside one of them that says no, and one that says yes is refused itself. */
  readonly partOf: readonly string[];
}

/**
 * The vocabularies of OpenAI, vLLM, llama.cpp, SGLang, TGI and of the programs that are used with them, as far as it is not
 * that of the schemas (CompletionRequest, ChatBody): a name in a schema is read by the schema. docs/api.md is made of this.
 */
export const REFUSED_FIELDS: ReadonlyMap<string, RefusedField> = new Map([
  ...fields("guided_json guided_regex guided_choice guided_grammar guided_decoding_backend", "text of a given form"),
  ...fields("guided_whitespace_pattern structural_tag regex ebnf json_schema format", "text of a given form"),
  ...fields("guided_decoding_disable_fallback guided_decoding_disable_any_whitespace", "text of a given form", [false]),
  ...fields("guided_decoding_disable_additional_properties grammar_lazy", "text of a given form", [false]),
  ...fields("structured_outputs guided_decoding", "text of a given form", [{}, false]),
  ...fields("grammar grammar_string", "text of a given form", [""]),
  ...fields("grammar_triggers preserved_tokens", "text of a given form", [[]]),
  ...fields("response_format", "text of a given form", [{ type: "text" }]),

  ...fields("tools functions", "tools, which are not available yet", [[]]),
  ...fields("tool_choice function_call", "a choice of tools, of which there are none", ["none", "auto"]),
  ...fields("tool_prompt", "tools, which are not available yet"),
  ...fields("parse_tool_calls", "tools, which are not available yet", [false]),
  ...fields("modalities", "an answer other than text", [["text"], []]),
  ...fields("audio images image_data video_data audio_data mm_data", "an answer or a prompt other than text", [[]]),
  ...fields("mm_processor_kwargs media_io_kwargs", "a prompt other than text", [{}]),
  ...fields("web_search_options plugins", "a search of the web", [[]]),
  ...fields("moderation", "a judgement of the text"),
  ...fields("verbosity", "a longer or shorter answer", ["medium"]),
  ...fields("documents", "documents, which templates of this server are not given", [[]]),
  ...fields("chat_template", "another template: the server has one (--chat-template)"),

  ...fields("suffix input_suffix input_extra", "text before a suffix", ["", []]),
  ...fields("prompt_embeds input_embeds", "a prompt of vectors", [[]]),
  ...fields("truncate_prompt_tokens", "a prompt cut short", [-1]),
  ...fields("truncate truncation_length", "a prompt cut short", [0]),
  ...fields("truncation_side", "a prompt cut short", [], ["truncate_prompt_tokens"]),
  ...fields("transforms", "a prompt cut short", [[]]),
  ...fields("n_keep", "tokens that stay when a text outgrows the window: lm_infinite.sinks", [0]),
  ...fields("n_discard n_indent", "a text cut or indented", [0]),

  ...fields("use_beam_search", "beam search", [false]),
  ...fields("num_beams num_beam_groups", "beam search", [1]),
  ...fields("diversity_penalty", "beam search", [0]),
  ...fields("length_penalty", "beam search", [1], ["use_beam_search", "num_beams"]),
  ...fields("early_stopping", "beam search", [false], ["use_beam_search", "num_beams"]),
  ...fields("best_of", "the best of several texts; the number that n has, or 0, is taken", [0]),

  ...fields("logits_processors logits_processor", "a program of the client's", [[]]),
  ...fields("custom_logit_processor custom_params lora_request", "a program of the client's", [{}]),
  ...fields("vllm_xargs", "extensions, of which there are none", [{}]),
  ...fields("lora_path lora adapter_id", "an adapter, of which there are none", ["", []]),
  ...fields("control_vectors", "an adapter: edits change features of SAEs", [[]]),
  ...fields("speculative_config", "another way to decode", [{}]),
  ...fields("watermark watermarking", "a watermark", [false]),
  ...fields("repetition_detection", "an end where the text repeats itself"),
  ...fields("stop_regex", "an end by a regular expression", [[], ""]),
  ...fields("t_max_predict_ms", "an end by the clock", [0]),
  ...fields("thinking_token_budget reasoning_budget thinking_budget_tokens", "a limit on thinking", [-1]),
  ...fields(
    "thinking reasoning think",
    "thinking apart from the answer; chat_template_kwargs has the template's variables",
  ),
  ...fields("reasoning_effort", "more or less thinking, which only a chat template can ask for", ["none"]),
  ...fields("enable_thinking", "a variable of the template, which stands in chat_template_kwargs"),
  ...fields("include_reasoning", "an answer without its thinking", [true]),
  ...fields("reasoning_format", "thinking apart from the answer", ["none", "auto"]),
  ...fields("thinking_forced_open", "thinking apart from the answer", [false]),

  ...fields("mirostat mirostat_mode", "Mirostat sampling", [0, false]),
  ...fields("mirostat_tau", "Mirostat sampling", [5], ["mirostat", "mirostat_mode"]),
  ...fields("mirostat_eta", "Mirostat sampling", [0.1], ["mirostat", "mirostat_mode"]),
  ...fields("typical_p typical typ_p", "typical sampling", [1]),
  ...fields("tfs tfs_z", "tail-free sampling", [1]),
  ...fields("top_a epsilon_cutoff eta_cutoff smoothing_factor penalty_alpha", "a sampler that is not here", [0]),
  ...fields("smoothing_curve", "a sampler that is not here", [1], ["smoothing_factor"]),
  ...fields("top_n_sigma top_nsigma", "top-n-sigma sampling", [0, -1]),
  ...fields("adaptive_target", "adaptive sampling", [-1]),
  ...fields("adaptive_decay", "adaptive sampling", [0.9], ["adaptive_target"]),
  ...fields("dynatemp_range", "a temperature that varies", [0]),
  ...fields("dynamic_temperature", "a temperature that varies", [false]),
  ...fields("dynatemp_exponent", "a temperature that varies", [1], ["dynatemp_range", "dynamic_temperature"]),
  ...fields("dynatemp_low dynatemp_high", "a temperature that varies", [], ["dynamic_temperature"]),
  ...fields("temperature_last", "another order of the samplers", [false]),
  ...fields("samplers sampler_order sampler_priority sampler_seq", "another order of the samplers"),
  ...fields("min_keep", "tokens that no sampler takes away", [0]),
  ...fields("dry_multiplier", "DRY penalties", [0]),
  ...fields("dry_base", "DRY penalties", [1.75], ["dry_multiplier"]),
  ...fields("dry_allowed_length", "DRY penalties", [2], ["dry_multiplier"]),
  ...fields("dry_penalty_last_n dry_range", "DRY penalties", [64, -1, 0], ["dry_multiplier"]),
  ...fields("dry_sequence_breakers", "DRY penalties", [["\n", ":", '"', "*"], []], ["dry_multiplier"]),
  ...fields("xtc_probability", "XTC sampling", [0]),
  ...fields("xtc_threshold", "XTC sampling", [0.1], ["xtc_probability"]),
  ...fields("no_repeat_ngram_size encoder_no_repeat_ngram_size", "no n-gram twice", [0]),
  ...fields("encoder_repetition_penalty guidance_scale cfg_scale", "guidance by the prompt", [1]),
  ...fields("negative_prompt", "guidance by another prompt", [""], ["guidance_scale"]),
  ...fields("repeat_last_n repetition_penalty_range", "penalties over fewer tokens", [], ["repeat_penalty"]),
  ...fields("penalize_nl", "penalties of line ends", [false], ["repeat_penalty"]),
  ...fields("do_sample", "greedy choice, which is temperature 0", [true]),
  ...fields("suppress_tokens begin_suppress_tokens bad_words_ids", "forbidden tokens: bad_words, logit_bias", [[]]),
  ...fields("force_words_ids sequence_bias", "forced tokens: logit_bias, allowed_token_ids", [[], {}]),

  ...fields("logprob_token_ids", "log-probabilities of given tokens"),
  ...fields("return_tokens_as_token_ids", "ids in place of texts: return_token_ids tells them", [false]),
  ...fields("return_prompt_text return_progress timings_per_token", "an answer with more fields", [false]),
  ...fields("return_hidden_states return_routed_experts return_meta_info", "an answer with more fields", [false]),
  ...fields("return_cached_tokens_details return_spec_tokens_details", "an answer with more fields", [false]),
  ...fields("details decoder_input_details post_sampling_probs", "an answer with more fields", [false]),
  ...fields("routed_experts_prompt_start routed_experts_start_len", "experts, of which there are none", [0]),
  ...fields("response_fields", "an answer with fewer fields", [[]]),
  ...fields("stream_interval", "chunks of several tokens", [1]),
  ...fields("kv_transfer_params ec_transfer_params session_params", "a cache of another server", [{}]),
  ...fields("bootstrap_host bootstrap_port bootstrap_room", "a cache of another server"),

  ...called("max_tokens", "n_predict max_new_tokens max_output_tokens num_predict max_tokens_to_sample max_length"),
  ...called("max_tokens", "max_completion_tokens"),
  ...called("min_tokens", "min_new_tokens min_length", [0]),
  ...called("n", "n_cmpl num_return_sequences", [1]),
  ...called("logprobs", "n_probs top_n_tokens top_logprobs", [0]),
  ...called("repetition_penalty", "repeat_penalty", [1]),
  ...called("stop", "stop_sequences stopping_strings", [[]]),
  ...called("seed", "random_seed"),
  ...called("add_special_tokens", "add_bos_token", [true]),
  ...called("ignore_eos", "ban_eos_token", [false]),
  ...called("include_stop_str_in_output", "no_stop_trim", [false]),
  ...called("bad_words", "custom_token_bans", ["", []]),
  ...called("echo", "return_full_text", [false]),
  ...called("return_token_ids", "return_tokens return_prompt_token_ids", [false]),
  ...fields("echo", "the messages once more", [false]),
  ...fields("add_special_tokens", "special tokens beside those of the template", [false]),
  ...fields("messages", "a chat, which /v1/chat/completions answers", [[]]),
  ...fields("prompt", "a text to go on with, which /v1/completions does", [""]),
  ...fields("input inputs input_ids", "another interface: prompt (or messages) has the text", [[]]),
  ...fields("instructions system", "another interface: a message of the role system has it", [""]),
  ...fields("parameters options", "another interface: its fields stand in the body itself", [{}]),
]);

/** What changes nothing of the answer: whatever they say, they are taken, and nobody is told. */
export const HARMLESS_FIELDS: ReadonlySet<string> = new Set([
  // OpenAI
  ..."metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention".split(" "),
  ..."prompt_cache_options parallel_tool_calls prediction".split(" "),
  // vLLM
  ..."request_id session_id priority return_token_offsets return_mm_kwargs".split(" "),
  // llama.cpp
  ..."cache_prompt id_slot n_cache_reuse sse_ping_interval backend_sampling".split(" "),
  ..."speculative.n_max speculative.n_min speculative.p_min".split(" "),
  // SGLang
  ..."rid extra_key data_parallel_rank routed_dp_rank separate_reasoning stream_reasoning".split(" "),
  // others
  ..."keep_alive usage".split(" "),
]);

function fields(
  names: string,
  asks: string,
  nothing: readonly unknown[] = [],
  partOf: readonly string[] = [],
): (readonly [string, RefusedField])[] {
  return names.split(" ").map((name) => [name, { asks: `it asks for ${asks}`, nothing, partOf }]);
}

/** What has another name here. */
function called(name: string, names: string, nothing: readonly unknown[] = []): (readonly [string, RefusedField])[] {
  return names.split(" ").map((other) => [other, { asks: `it is called ${name} here`, nothing, partOf: [] }]);
}
