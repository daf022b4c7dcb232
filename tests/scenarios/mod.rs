//! What is promised of deployments, played on a stage: a world in memory and real parts keep the same promises, told by
//! the same code.

pub(crate) mod again;
pub(crate) mod bad;
pub(crate) mod forward;
pub(crate) mod hooks;
pub(crate) mod jobs;
pub(crate) mod orphan;
pub(crate) mod others;
pub(crate) mod refused;
pub(crate) mod rivals;
pub(crate) mod see;
pub(crate) mod stage;
pub(crate) mod steer;
pub(crate) mod ways;
pub(crate) mod worker;

/// Makes a test of each scenario by the macro `$play`, which gets the module, the name, and the kind of service that it
/// is about where that is not HTTP.
macro_rules! play_all {
    ($play:ident) => {
        $play!(forward::the_first_deployment_is_promoted_and_serves);
        $play!(forward::a_version_replaces_another_under_load_and_no_request_is_lost);
        $play!(forward::requests_move_in_the_steps_of_the_plan_and_no_request_is_lost);
        $play!(forward::two_services_are_deployed_side_by_side);

        $play!(ways::a_rolling_update_promotes);
        $play!(ways::a_rolling_update_that_stops_first_promotes);
        $play!(ways::a_pooled_rolling_update_promotes);
        $play!(ways::a_pooled_rolling_update_that_stops_first_promotes);
        $play!(ways::a_canary_promotes);
        $play!(ways::a_canary_whose_capacity_follows_promotes);
        $play!(ways::a_rolling_update_is_rolled_back_by_another);
        $play!(ways::a_pooled_rolling_update_is_rolled_back_by_another);
        $play!(ways::a_canary_is_rolled_back_by_another);
        $play!(ways::a_rolling_update_undoes_whatever_is_bad);
        $play!(ways::a_rolling_update_that_stops_first_undoes_whatever_is_bad);
        $play!(ways::a_pooled_rolling_update_undoes_whatever_is_bad);
        $play!(ways::a_pooled_rolling_update_that_stops_first_undoes_whatever_is_bad);
        $play!(ways::a_canary_undoes_whatever_is_bad);
        $play!(ways::a_canary_whose_capacity_follows_undoes_whatever_is_bad);
        $play!(ways::a_tcp_service_is_replaced_by_a_blue_green_rollout: Tcp);
        $play!(ways::a_tcp_service_is_replaced_by_a_rolling_update: Tcp);
        $play!(ways::a_tcp_service_is_replaced_by_a_canary: Tcp);
        $play!(ways::a_tcp_service_that_crashes_is_undone: Tcp);
        $play!(ways::a_service_begins_by_a_rolling_update);
        $play!(ways::a_service_begins_by_a_canary);
        $play!(ways::a_blue_green_rollout_replaces_a_stable_that_is_broken);
        $play!(ways::a_rolling_update_replaces_a_stable_that_is_broken);
        $play!(ways::a_canary_replaces_a_stable_that_is_broken);
        $play!(ways::a_blue_green_rollout_replaces_a_stable_that_has_no_tasks);
        $play!(ways::a_rolling_update_replaces_a_stable_that_has_no_tasks);
        $play!(ways::a_canary_replaces_a_stable_that_has_no_tasks);
        $play!(ways::a_blue_green_rollout_follows_a_desired_count_that_somebody_changes);
        $play!(ways::a_rolling_update_follows_a_desired_count_that_somebody_changes);
        $play!(ways::a_canary_follows_a_desired_count_that_somebody_changes);
        $play!(ways::a_rolling_update_leaves_nothing_of_what_was_held_unless_it_fails);
        $play!(ways::a_canary_leaves_nothing_of_what_was_held_unless_it_fails);

        $play!(bad::a_version_that_crashes_is_rolled_back_by_itself);
        $play!(bad::a_version_that_is_never_ready_is_rolled_back_by_itself);
        $play!(bad::a_version_that_is_too_slow_for_its_gate_is_rolled_back_by_itself);
        $play!(bad::a_version_that_nobody_can_judge_is_rolled_back_by_itself);
        $play!(bad::of_a_version_that_errs_under_live_requests_only_its_own_answers_fail);
        $play!(bad::a_bad_first_deployment_leaves_nothing);
        $play!(bad::a_first_deployment_that_errs_under_live_requests_leaves_nothing);
        $play!(bad::a_candidate_that_dies_while_it_bakes_is_not_promoted);

        $play!(steer::an_abort_at_any_step_before_the_promotion_undoes_all_and_loses_nothing);
        $play!(steer::an_abort_at_any_step_of_a_canary_undoes_all_and_loses_nothing);
        $play!(steer::an_abort_after_any_change_of_a_rolling_update_undoes_all_and_loses_nothing);
        $play!(steer::an_abort_while_it_is_undone_changes_nothing);
        $play!(steer::a_pause_stops_the_soak_until_it_is_ended);
        $play!(steer::a_paused_rollout_can_be_aborted);
        $play!(steer::finish_now_skips_the_waits);
        $play!(steer::finish_now_does_not_promote_past_a_failing_gate);
        $play!(steer::finish_now_does_not_take_silence_for_a_pass);
        $play!(steer::a_canary_goes_on_when_it_is_approved);
        $play!(steer::a_canary_that_is_refused_or_not_approved_in_time_is_undone);
        $play!(hooks::hooks_run_at_every_point_of_a_blue_green_rollout);
        $play!(hooks::hooks_run_at_every_point_of_a_rolling_update);
        $play!(hooks::hooks_run_at_every_point_of_a_canary);
        $play!(hooks::a_hook_that_fails_after_the_last_shift_undoes_the_rollout);

        $play!(again::what_already_runs_is_left_alone);
        $play!(again::what_already_runs_is_deployed_when_that_is_forced);
        $play!(again::a_rollback_to_the_held_place_is_one_change_of_the_routing);
        $play!(again::a_rollback_brings_back_what_is_not_held_any_more);
        $play!(again::a_held_place_is_kept_until_its_time_is_over);
        $play!(again::a_held_place_is_removed_when_its_time_is_over);
        $play!(again::the_next_deployment_leaves_nothing_of_what_was_held);

        $play!(orphan::a_rollout_whose_deployer_died_is_undone_by_the_next);
        $play!(orphan::a_rollout_whose_plan_says_so_goes_on_after_its_deployer_died);
        $play!(orphan::a_promoted_rollout_whose_deployer_died_is_finished);
        $play!(orphan::undoing_needs_none_of_the_gates);
        $play!(orphan::a_rollout_that_is_to_go_on_needs_its_gates_before_anything_moves);
        $play!(orphan::a_service_whose_deployer_died_is_not_deployed_before_it_is_recovered);

        $play!(jobs::a_migration_runs_before_the_new_version_starts_and_leaves_nothing);
        $play!(jobs::a_job_that_fails_undoes_the_rollout_and_the_report_says_what_it_wrote);
        $play!(jobs::a_job_whose_deployer_died_is_awaited_by_the_next_which_goes_on);

        $play!(others::a_service_that_is_being_deployed_is_refused_to_others_who_are_told_by_whom);
        $play!(others::of_two_who_deploy_at_once_one_is_refused);
        $play!(others::one_deployer_deploys_a_service_once_at_a_time);
        $play!(others::a_plan_for_a_world_that_is_gone_is_refused);
        $play!(others::a_desired_count_that_somebody_raised_is_what_the_new_version_gets);
        $play!(others::a_stable_that_lost_a_task_has_it_again_before_requests_return);
        $play!(others::a_stable_that_lacks_a_task_is_told_of_and_can_be_replaced);
        $play!(others::a_routing_that_somebody_else_set_stops_the_rollout);

        $play!(rivals::a_rollout_is_aborted_by_another_deployer);
        $play!(rivals::a_newer_version_supersedes_the_one_that_is_being_deployed);
        $play!(rivals::a_service_is_taken_from_a_deployer_that_lives);
        $play!(rivals::who_supervises_recovers_what_the_dead_left);
        $play!(rivals::nobody_is_asked_when_nothing_is_open);
        $play!(rivals::what_was_asked_once_is_done_once_whoever_recovers_the_rollout);
        $play!(rivals::what_is_being_deployed_already_is_not_superseded);
        $play!(rivals::who_waits_can_deploy_when_the_other_has_ended);
        $play!(rivals::who_waits_too_long_is_told_for_whom);
        $play!(rivals::who_waits_for_the_dead_recovers_what_they_left);
        $play!(rivals::who_supervises_removes_what_is_held_too_long);
        $play!(rivals::who_supervises_leaves_those_alone_who_work);

        $play!(worker::a_worker_is_replaced_within_its_bounds: Worker);
        $play!(worker::a_worker_that_crashes_is_undone_within_its_bounds: Worker);
        $play!(worker::a_worker_that_fails_its_gate_is_undone_within_its_bounds: Worker);
        $play!(worker::a_bad_first_worker_leaves_nothing: Worker);
        $play!(worker::a_worker_is_rolled_back: Worker);
        $play!(worker::a_canary_of_a_worker_is_refused_with_what_to_do_instead: Worker);

        $play!(refused::a_journal_of_a_later_version);
        $play!(refused::a_journal_with_a_damaged_line);
        $play!(refused::a_history_with_a_damaged_line);
        $play!(refused::a_lease_whose_file_is_damaged_while_it_is_held);
        $play!(refused::a_store_that_has_lost_both_its_lease_and_its_token);

        $play!(orphan::a_journal_that_was_cut_short_is_undone_all_the_same);
        $play!(others::a_damaged_lease_file_that_nobody_holds_is_in_nobodys_way);
    };
}
pub(crate) use play_all;

/// The same for those that leave a stage as they found it, so that several can be played on one.
macro_rules! play_refusals {
    ($play:ident) => {
        $play!(refused::an_image_that_cannot_be_parsed);
        $play!(refused::an_unknown_tag);
        $play!(refused::a_tag_while_the_registry_cannot_be_reached);
        $play!(refused::an_image_that_cannot_be_pulled);
        $play!(refused::zero_replicas);
        $play!(refused::an_unknown_service_without_a_spec);
        $play!(refused::a_gate_that_nobody_gave);
        $play!(refused::a_plan_edited_to_a_held_place_that_is_none);
        $play!(refused::a_plan_edited_to_the_place_that_serves);
        $play!(refused::a_plan_edited_to_shift_before_anything_runs);
        $play!(refused::a_plan_edited_to_have_no_end);
        $play!(refused::a_plan_of_a_later_version);
    };
}
pub(crate) use play_refusals;
