"""Faults in training, evaluation, the report, data and the program."""

from tests.mutants.mutant import Mutant

TRAINING = [
    Mutant(
        "training/state.py",
        "    key = jax.random.fold_in(state.key, state.step)\n",
        "    key = jax.random.fold_in(state.key, 0)\n",
        "training/test_state.py::test_step_n_reports_the_loss_on_the_noise_of_step_n",
    ),
    Mutant(
        "training/state.py",
        "    opt_state = _where(accepted, opt_state, state.opt_state)\n",
        "",
        "training/test_skipped.py::test_a_step_leaves_model_and_optimizer_alone",
    ),
    Mutant(
        "training/state.py",
        "        factor = jnp.where(finite & (large_errors > 0), shorter, 1.0)",
        "        factor = jnp.ones(())",
        "training/test_flow_start.py::test_rough_trajectories_shorten_the_steps_alone",
    ),
    Mutant(
        "training/loop.py",
        "        if bound > position.best_elbo or self._validate is None or first:",
        "        if True:",
        "training/test_fit.py::test_the_best_model_is_that_of_the_best_validation_elbo",
    ),
    Mutant(
        "training/loop.py",
        "position.epoch - 1 - position.best_epoch >= patience",
        "position.epoch - 1 - position.best_epoch > patience",
        "training/test_fit.py::test_patience_counts_epochs_without_a_better_elbo",
    ),
    Mutant(
        "training/validation.py",
        "jnp.sum(jnp.where(mask, v, 0))",
        "jnp.sum(v)",
        "training/test_validation.py::test_it_does_not_depend_on_the_batch_size",
    ),
    Mutant(
        "training/schedule.py",
        "    quarter_of_time = epochs / (4 + 9 * gradients / 4)",
        "    quarter_of_time = epochs / (4 + gradients)",
        "commands/test_family.py::test_by_default_a_flow_has_a_quarter_of_the_time",
    ),
]

EVALUATION = [
    Mutant(
        "evaluation/weights.py",
        "    return np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])",
        "    return np.logaddexp.reduce(log_w, axis=1) - np.log(np.isfinite(log_w).sum(axis=1))",
        "evaluation/test_weights.py::test_draws_that_are_not_finite_count_as_zero_weights",
    ),
    Mutant(
        "evaluation/weights.py",
        " + 10 * 0.5) / (len(excess) + 10)",
        ") / len(excess)",
        "evaluation/test_weights.py",
    ),
    Mutant(
        "evaluation/diagnosis.py",
        "self.untrusted <= UNTRUSTED and self.lost == 0",
        "self.untrusted <= UNTRUSTED",
        "evaluation/test_diagnosis.py::test_a_lost_point_is_never_trusted",
    ),
    Mutant(
        "evaluation/evaluate.py",
        "            nll_mc_se=float(np.sqrt(weights.variance.sum() / num_samples) / points),",
        "            nll_mc_se=float(np.sqrt(weights.variance.sum() / num_samples)),",
        "evaluation/test_evaluate.py::test_nll_is_the_negative_log_likelihood",
    ),
    Mutant(
        "evaluation/weights.py",
        "np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])",
        "log_w.mean(axis=1)",
        "evaluation/test_ais.py::test_both_bounds_close_on_the_closed_form "
        "evaluation/test_ais.py::test_a_draw_that_overflows_has_no_weight",
    ),
    Mutant(
        "evaluation/weights.py",
        "np.isfinite(log_weight), log_weight.astype(np.float64), -np.inf)\n    return np.log",
        "True, log_weight.astype(np.float64), -np.inf)\n    return np.log",
        "evaluation/test_ais.py::test_a_draw_that_overflows_has_no_weight "
        "evaluation/test_ais.py::test_a_point_of_which_every_chain_fails_is_said_to_be_lost",
    ),
    Mutant(
        "evaluation/interpolate.py",
        "    length = (1 - t) * of_a + t * of_b",
        "    length = of_a",
        "evaluation/test_interpolate.py",
    ),
]

REPORT = [
    Mutant(
        "report/density.py",
        "np.searchsorted(held, mass * held[-1])",
        "np.searchsorted(held, mass * held[0])",
        "report/test_density.py::test_levels_hold_their_mass",
    ),
    Mutant(
        "report/features.py",
        "np.argsort(-score if largest_first else score",
        "np.argsort(score if largest_first else -score",
        "report/test_features.py::test_features_by_rank",
    ),
    Mutant(
        "report/headline.py",
        '    verdict = "better" if gap >= 0 else "worse"',
        '    verdict = "worse" if gap >= 0 else "better"',
        "report/test_results.py::test_models_below_a_reference_are_told "
        "report/test_results.py::test_references_are_lines_of_the_table",
    ),
    Mutant(
        "report/figures/scale.py",
        "        above = other is None or bool(np.all(other[np.isfinite(other)] > 0))",
        "        above = True",
        "report/test_scale.py::test_a_model_below_zero_has_no_log_axis",
    ),
]

DATA = [
    Mutant(
        "data/split.py",
        "np.sort(indices) for part",
        "indices for part",
        "data/test_split.py::test_parts_are_disjoint_covering_and_ascending",
    ),
    Mutant(
        "data/batches.py",
        "        yield PaddedBatch(np.where(mask, index, 0), mask)",
        "        yield PaddedBatch(np.where(mask, index, 0), mask | True)",
        "data/test_batches.py::test_padded_batches_hold_each_index_once",
    ),
    Mutant(
        "data/batches.py",
        "    order = random_order(n, seed, epoch)[",
        "    order = random_order(n, seed)[",
        "data/test_batches.py::test_an_epoch_is_a_pure_function_of_seed_and_epoch",
    ),
    Mutant(
        "data/binarize.py",
        "[_KEY, *part.encode()]",
        "[_KEY]",
        "data/test_binarize.py::test_bits_are_fixed_for_a_part_and_differ_between_parts",
    ),
    Mutant(
        "data/idx.py",
        '    return x.astype(dtype.newbyteorder("="), copy=False)',
        "    return x",
        "data/test_idx.py::test_round_trip",
    ),
]

COMMANDS = [
    Mutant(
        "commands/compare.py",
        "    if len(found) < 2:\n",
        "    if len(found) < 1:\n",
        "commands/test_compare.py::test_bad_input_is_told_before_any_work",
    ),
    Mutant(
        "commands/compare.py",
        "found.setdefault(os.path.realpath(path), path)",
        "found.setdefault(str(path), path)",
        "commands/test_compare.py::test_a_run_is_scored_once_however_it_is_named",
    ),
    Mutant(
        "commands/same_data.py",
        "    return all(\n        np.array_equal",
        "    return any(\n        np.array_equal",
        "commands/test_compare.py::test_a_changed_copy_of_a_file_is_not",
    ),
    Mutant(
        "pipeline/columns.py",
        "    keep = np.flatnonzero(~(constant | index))",
        "    keep = np.flatnonzero(~index)",
        "commands/test_tables.py::test_a_table_trains_at_the_first_try",
    ),
    Mutant(
        "pipeline/references.py",
        "    worst = np.argsort(-np.nan_to_num(less, nan=np.inf))\n    decide",
        "    worst = np.argsort(np.nan_to_num(less, nan=np.inf))\n    decide",
        "test_advice.py::test_worse_at_most_rows_a_smaller_model_is_named",
    ),
]

REST = [*TRAINING, *EVALUATION, *REPORT, *DATA, *COMMANDS]
