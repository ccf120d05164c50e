"""Reference orchestration 10: what SwarmKit tests, and the tests here that show the same; or why there are none.

`test_orchestration_table.py` checks that they exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_UNIT: Final = "tests/unit"


def _of(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::test_{name}" for name in names)


def _orchestrator(module: str, *names: str) -> tuple[str, ...]:
    return _of(f"{_UNIT}/orchestrator/test_{module}.py", *names)


def _scheduler(*names: str) -> tuple[str, ...]:
    return _of(f"{_UNIT}/scheduler/test_scheduler.py", *names)


def _tree(*names: str) -> tuple[str, ...]:
    return _of(f"{_UNIT}/scheduler/test_tree.py", *names)


def _filters(*names: str) -> tuple[str, ...]:
    return _of(f"{_UNIT}/scheduler/test_filters.py", *names)


def _loops(*names: str) -> tuple[str, ...]:
    return _of(f"{_UNIT}/manager/loops/test_task_loops.py", *names)


def _constraints(*names: str) -> tuple[str, ...]:
    return _of(f"{_UNIT}/model/test_constraints.py", *names)


def _all(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for group in groups for name in group)


SCENARIOS: Final[dict[int, tuple[str, ...]]] = {
    # -- scheduler
    1: _scheduler(
        "new_tasks_go_to_the_empty_nodes_first", "a_task_wanted_down_no_longer_counts_but_still_takes_its_room"
    ),
    2: _all(
        _scheduler("a_removed_node_gets_nothing", "unavailable_nodes_get_nothing_and_the_task_says_why"),
        _loops("what_is_gone_is_neither_placed_nor_placed_on"),
    ),
    3: _scheduler("a_node_that_appears_or_comes_back_gets_what_waits"),
    4: _scheduler("a_service_is_spread_evenly_and_then_by_all_tasks"),
    5: _scheduler("the_services_own_spread_comes_before_the_nodes_load"),
    6: _tree("a_zone_of_one_node_gets_as_much_as_a_zone_of_four"),
    7: _tree("what_a_full_zone_cannot_take_goes_to_the_other_and_is_spread_over_its_racks"),
    8: _tree("an_uneven_lower_level_takes_no_more_than_its_share"),
    9: _tree("nodes_without_the_label_are_a_branch_of_their_own_and_nodes_that_take_nothing_count"),
    10: _all(
        _loops("an_unplaceable_task_says_why_and_goes_on_when_it_can"),
        _scheduler("a_node_that_appears_or_comes_back_gets_what_waits"),
    ),
    11: _scheduler("the_explanation_names_each_filter_most_nodes_first", "the_explanation_tells_cpu_from_memory"),
    12: _scheduler(
        "five_recent_failures_put_a_node_last_for_that_service_and_version",
        "four_failures_or_old_ones_do_not",
        "of_failing_nodes_the_least_failing_comes_first",
    ),
    13: _scheduler("reservations_are_accounted_for_exactly"),
    14: _scheduler("the_end_of_a_task_lets_a_waiting_one_in", "dead_and_unwanted_tasks_do_not_count_at_the_start"),
    15: _all(
        _of(f"{_UNIT}/model/test_platforms.py", "what_runs_where"),
        _filters("platforms_with_their_second_names_and_empty_parts"),
    ),
    16: _scheduler("a_task_given_up_while_its_assignment_is_on_the_way_gives_its_room_back"),
    17: _of(
        f"{_UNIT}/scheduler/test_explain.py",
        "tasks_bound_to_a_node_come_before_the_others_and_influence_their_balance",
    ),
    18: _scheduler("dead_and_unwanted_tasks_do_not_count_at_the_start"),
    19: _all(
        _scheduler("max_replicas_limits_a_node", "max_replicas_holds_within_one_group"),
        _orchestrator("history", "what_may_be_deleted"),
    ),
    20: _filters("log_drivers", "a_task_with_its_own_log_driver_goes_where_that_is"),
    21: _filters("host_ports_are_taken_per_protocol_and_node", "a_group_with_host_ports_gets_one_task_a_node"),
    22: _filters("max_replicas_with_constraints_opens_with_a_third_node"),
    # -- constraints and generic resources
    26: _constraints("what_is_no_constraint", "what_is_one"),
    27: _constraints("values_are_compared_as_whole_texts_whatever_the_case"),
    28: _constraints("what_a_node_does_not_say_is_empty", "values_are_compared_as_whole_texts_whatever_the_case"),
    29: _constraints("addresses_are_compared_as_addresses"),
    30: _constraints("all_must_be_met"),
    31: _of(f"{_UNIT}/model/test_generic_resources.py", "amounts_and_sets", "what_is_none_is_told_with_the_flag"),
    32: _of(
        f"{_UNIT}/scheduler/test_generic.py",
        "an_amount_is_given_out_and_comes_back",
        "of_a_set_the_first_free_names_are_given_out",
        "what_a_node_has_less_of_is_not_given_out_twice_when_it_grows_again",
        "a_kind_that_turns_from_amount_to_set_or_back_begins_anew",
    ),
    # -- replicated services
    33: _orchestrator(
        "replicas",
        "a_new_service_gets_a_task_in_each_of_the_first_slots",
        "scaling_up_adds_and_scaling_down_removes_the_highest",
        "a_deleted_record_is_made_again",
        "a_removed_service_takes_all_its_tasks_along",
    ),
    34: _orchestrator("replicas", "scale_down_victims_are_chosen_exactly"),
    35: _orchestrator("replicas", "which_node_conditions_evict"),
    36: _orchestrator("convergence_property", "once_the_world_keeps_still_exactly_the_wanted_replicas_run"),
    37: _all(
        _orchestrator("replicas", "tasks_of_a_down_node_are_replaced_at_once"),
        _loops("a_service_comes_up_survives_a_dead_node_and_goes"),
    ),
    38: _orchestrator("restart", "a_new_leader_goes_on_with_the_remaining_delay"),
    39: _orchestrator(
        "dirty",
        "equal_versions_are_equal_whatever_they_say",
        "only_what_the_task_is_or_where_it_may_not_stay_replaces_it",
    ),
    40: _orchestrator("history", "the_oldest_go_first"),
    # -- restarts
    41: _orchestrator("restart", "condition_says_what_is_replaced"),
    42: _orchestrator("restart", "condition_says_what_is_replaced"),
    43: _orchestrator("restart", "condition_says_what_is_replaced"),
    44: _orchestrator("restart", "the_replacement_is_prepared_at_once_and_started_after_the_delay"),
    45: _orchestrator(
        "restart",
        "max_attempts_restarts_each_slot_that_often_and_no_more",
        "a_new_template_starts_with_all_attempts",
    ),
    46: _all(
        _orchestrator("restart", "only_ends_within_the_window_count"),
        _orchestrator("back_off", "the_window_stands_still_while_a_restart_is_held"),
    ),
    47: _orchestrator(
        "restart", "only_ends_within_the_window_count", "a_slot_out_of_attempts_stays_out_whatever_the_history_limit"
    ),
    # -- updates
    48: _all(
        _orchestrator("update", "an_update_replaces_one_slot_at_a_time_stopping_the_old_task_first"),
        _orchestrator(
            "update_options",
            "so_many_slots_move_at_a_time",
            "none_is_all_at_once",
            "a_new_task_runs_for_the_delay_before_the_next_turn",
        ),
        _orchestrator("update_status", "start_first_leaves_no_gap"),
        _orchestrator("log_driver", "the_services_own_wins_and_the_swarms_fills_in_for_new_tasks"),
    ),
    49: _orchestrator("dirty", "only_what_the_task_is_or_where_it_may_not_stay_replaces_it"),
    50: _orchestrator("update_status", "a_failure_pauses_and_names_the_task", "continue_goes_on_whatever_fails"),
    51: _orchestrator("update", "an_old_task_that_never_stops_holds_up_the_update_for_a_minute"),
    52: _orchestrator("update_status", "start_first_leaves_no_gap"),
    53: _orchestrator(
        "update_status",
        "a_tolerated_failure_is_told_at_the_end",
        "more_failures_than_tolerated_pause",
        "a_rollback_brings_the_previous_template_back_and_says_why",
        "a_failing_rollback_pauses_and_is_not_rolled_back",
    ),
    54: _orchestrator("update_status", "a_late_failure_within_the_monitor_time_counts_also_when_the_delay_is_longer"),
    # -- global services
    55: _orchestrator(
        "global_services",
        "each_node_gets_one_task_that_is_bound_to_it_from_the_start",
        "a_node_that_joins_gets_a_task_and_one_that_is_removed_leaves_no_record",
        "a_removed_service_gives_up_all_its_tasks",
    ),
    56: _orchestrator(
        "global_services",
        "drain_and_down_shut_the_task_down_and_the_node_gets_another_when_it_is_back",
        "a_paused_node_keeps_its_task_is_not_updated_and_gets_no_replacement",
    ),
    57: _orchestrator("global_services", "drain_and_down_shut_the_task_down_and_the_node_gets_another_when_it_is_back"),
    58: _orchestrator("global_services", "a_record_that_somebody_deletes_is_made_good"),
    59: _orchestrator("global_services", "a_new_leader_mends_what_it_finds"),
    60: _orchestrator("global_services", "services_do_not_touch_each_other"),
    # -- jobs
    61: _orchestrator("jobs", "the_first_pass_creates_as_many_as_may_run_at_a_time_in_slots_of_their_own"),
    62: _orchestrator(
        "jobs",
        "with_some_under_way_only_the_difference_is_created",
        "what_is_asked_to_go_counts_for_nothing_and_its_slot_is_used_again",
    ),
    63: _orchestrator("jobs", "failures_stay_in_their_slot_and_completions_keep_theirs"),
    64: _orchestrator("jobs", "near_the_end_no_more_are_created_than_are_to_complete"),
    65: _orchestrator("jobs", "an_update_removes_the_old_iteration_and_begins_the_next"),
    66: _orchestrator("jobs", "a_job_for_nothing_and_one_that_is_gone_create_nothing"),
    67: _orchestrator(
        "global_jobs",
        "each_node_that_the_constraints_admit_runs_it_once",
        "a_node_that_cannot_run_it_now_gets_it_once_it_can",
        "a_node_that_is_drained_or_down_is_asked_to_stop_at_once",
    ),
    68: _orchestrator(
        "jobs", "condition_none_is_not_tried_again_whatever_else_happens", "three_attempts_are_three_restarts"
    ),
    69: _loops("a_poisoned_service_does_not_hold_up_the_others", "losing_the_lead_ends_the_loop"),
    # -- reaper, enforcers
    70: _orchestrator("history", "each_slot_keeps_so_many_records_the_running_one_included"),
    71: _orchestrator("history", "records_wanted_gone_stay_until_nothing_of_them_runs"),
    72: _all(
        _loops("reaping_gathers_for_a_quarter_of_a_second"),
        _orchestrator("history", "a_large_removal_goes_in_bounded_transactions"),
    ),
    73: _orchestrator("history", "what_may_be_deleted"),
    74: _orchestrator(
        "enforcer",
        "a_node_that_changes_its_role_gives_up_what_was_bound_to_the_old_one",
        "memory_that_shrank_turns_out_the_largest_and_of_equals_the_newest",
        "the_services_rule_wins_over_what_the_task_was_made_with",
        "a_member_of_a_set_that_vanished_turns_out_who_had_it_and_all_are_looked_at",
        "an_amount_that_shrank_turns_out_as_many_as_it_must",
        "what_does_not_run_there_is_neither_charged_nor_turned_out",
    ),
    # -- allocator
    76: _of(
        f"{_UNIT}/allocator/test_ports.py",
        "a_number_that_is_asked_for_is_given_and_others_are_chosen",
        "a_port_that_another_service_has_is_refused_naming_it",
        "numbers_are_kept_when_others_come_and_go",
        "a_removed_service_gives_its_ports_back",
        "no_port_ever_has_two_holders_and_what_was_chosen_stays",
    ),
    77: _of(
        f"{_UNIT}/allocator/test_books.py",
        "a_new_reign_gives_nothing_that_is_in_use_whatever_comes_first",
        "what_two_objects_claim_is_found_and_the_second_must_change",
    ),
    # Of 77 to 79 the pure part: the leader's loop gives no addresses until tasks are connected to networks.
    78: _of(
        f"{_UNIT}/allocator/test_books.py",
        "a_node_has_an_address_where_its_tasks_are_and_nowhere_else",
        "a_new_reign_gives_nothing_that_is_in_use_whatever_comes_first",
    ),
    79: _of(
        f"{_UNIT}/allocator/test_books.py",
        "a_full_network_says_so_until_something_is_freed",
    ),
}

WHY_NOT: Final[dict[int, str]] = {
    23: "no task can ask for a cluster volume yet: no driver serves any",
    24: "no task can ask for a cluster volume yet: no driver serves any",
    25: "no task can ask for a cluster volume yet: no driver serves any",
    75: "no task can ask for a cluster volume yet: no driver serves any",
    80: "there are no volume drivers yet",
    81: "a service and a network go in one transaction each; tasks of a service that is gone are wanted REMOVE; a "
    "network is not removed while a service or a live task names it: nothing is left to be deleted later",
}
