/** Fields of cfg.json that say what an SAE computes and reads; each is honoured or checked. */
const READ = [
  "architecture",
  "d_in",
  "d_sae",
  "d_out",
  "apply_b_dec_to_input",
  "normalize_activations",
  "reshape_activations",
  "activation_fn",
  "activation_fn_str",
  "activation_fn_kwargs",
  "k",
  "rescale_acts_by_decoder_norm",
  "finetuning_scaling_factor", // a tensor of this name is
  "metadata",
  "model_name",
  "model_class_name",
  "model_from_pretrained_kwargs",
  "hook_name",
  "hook_point",
  "hook_name_out",
  "hook_head_index",
  "hook_point_head_index",
];

/** Fields that SAELens 1 to 6 and what came before it write of a training run: its data, its losses, its logs. */
const TRAINING = [
  ["dtype", "device", "act_store_device", "llm_device", "seed", "verbose", "autocast", "autocast_lm"],
  ["compile_llm", "compile_sae", "llm_compilation_mode", "sae_compilation_mode", "name", "run_name", "output_path"],
  ["sae_lens_version", "sae_lens_training_version", "neuronpedia_id", "neuronpedia", "hf_hook_name"],
  ["hf_hook_name_out", "hook_layer", "hook_layer_out", "hook_head_index_out", "hook_point_layer", "hook_eval"],
  ["hook_point_eval", "prepend_bos", "exclude_special_tokens", "context_size", "seqpos_slice", "dataset_path"],
  ["dataset_trust_remote_code", "is_dataset_tokenized", "streaming", "use_cached_activations", "expansion_factor"],
  ["cached_activations_path", "use_chat_formatting", "disable_concat_sequences", "sequence_separator_token"],
  ["activations_mixing_fraction", "n_batches_in_buffer", "tokens_per_buffer", "store_batch_size", "store_size"],
  ["store_batch_size_prompts", "prefetch_llm_batches", "train_batch_size", "train_batch_size_tokens"],
  ["train_batch_size_samples", "training_tokens", "total_training_tokens", "total_training_samples"],
  ["finetuning_tokens", "finetuning_method", "n_batches_for_norm_estimate", "adam_beta1", "adam_beta2", "lr", "lr_end"],
  ["lr_scheduler_name", "lr_warm_up_steps", "lr_decay_steps", "n_restart_cycles", "l1_coefficient", "l1_warm_up_steps"],
  ["lp_norm", "l0_coefficient", "l0_warm_up_steps", "target_l0", "aux_loss_coefficient", "pre_act_loss_coefficient"],
  ["mse_loss_normalization", "scale_sparsity_penalty_by_decoder_norm", "use_ghost_grads", "noise_scale"],
  ["use_sparse_activations", "topk_threshold_lr", "matryoshka_widths", "use_matryoshka_aux_loss", "jumprelu_bandwidth"],
  ["jumprelu_init_threshold", "jumprelu_sparsity_loss_mode", "jumprelu_ste_to_input", "jumprelu_tanh_scale"],
  ["normalize_sae_decoder", "decoder_init_norm", "decoder_heuristic_init", "decoder_heuristic_init_norm"],
  ["decoder_orthogonal_init", "init_encoder_as_decoder_transpose", "b_dec_init_method", "from_pretrained_path"],
  ["feature_sampling_window", "feature_sampling_method", "feature_reinit_scale", "resample_batches"],
  ["dead_feature_window", "dead_feature_threshold", "dead_feature_estimation_method", "n_eval_batches", "n_eval_seqs"],
  ["eval_batch_size_prompts", "n_checkpoints", "checkpoint_path", "save_final_checkpoint", "resume"],
  ["resume_from_checkpoint", "logger", "log_to_wandb", "wandb_project", "wandb_entity", "wandb_id"],
  ["wandb_log_frequency", "eval_every_n_wandb_logs", "log_activations_store_to_wandb", "log_optimizer_state_to_wandb"],
].flat();

export const SAELENS_FIELDS: ReadonlySet<string> = new Set([...READ, ...TRAINING]);
