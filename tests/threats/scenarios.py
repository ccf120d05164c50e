"""Reference security 9: what SwarmKit tests, and the tests here that show the same; or why there are none.

`test_tables.py` checks that they exist.
"""

from __future__ import annotations

from typing import Final

_UNIT: Final = "tests/unit"

SCENARIOS: Final[dict[int, tuple[str, ...]]] = {
    1: (
        f"{_UNIT}/storage/test_node_files.py::test_identity_files_have_their_names_and_modes",
        f"{_UNIT}/pki/test_authority.py::test_a_root_is_an_authority_valid_for_20_years",
        f"{_UNIT}/pki/test_authority.py::test_an_authority_is_refused_with_another_ones_key",
        f"{_UNIT}/pki/test_authority.py::test_an_authority_of_garbage_is_invalid",
    ),
    2: (f"{_UNIT}/pki/test_authority.py::test_only_the_key_is_taken_from_a_request",),
    3: (
        f"{_UNIT}/node/test_enrolment.py::test_a_manager_that_shows_another_root_is_sent_nothing",
        f"{_UNIT}/node/test_enrolment.py::test_a_root_with_something_appended_is_refused",
        f"{_UNIT}/pki/test_authority.py::test_any_root_of_a_bundle_will_do",
    ),
    4: (f"{_UNIT}/pki/test_chain.py::test_a_leaf_with_the_cross_signed_root_holds_under_the_old_the_new_and_both",),
    5: (
        f"{_UNIT}/storage/test_disk_keys.py::test_a_disk_that_is_sealed_from_the_first_write_on_was_never_in_clear",
        f"{_UNIT}/storage/test_disk_keys.py::test_a_worker_has_its_key_in_clear_and_no_data_keys",
    ),
    6: (f"{_UNIT}/manager/test_ca_server.py::test_the_token_decides_the_role",),
    7: (
        f"{_UNIT}/node/test_enrolment.py::test_a_request_that_is_never_decided_is_given_up_without_a_busy_loop",
        f"{_UNIT}/manager/test_external_ca.py::test_a_cancelled_call_ends_at_once",
    ),
    8: (
        f"{_UNIT}/node/test_enrolment.py::test_the_next_address_is_asked_at_once",
        f"{_UNIT}/node/test_enrolment.py::test_an_unreachable_manager_is_tried_5_times_2_seconds_apart",
        f"{_UNIT}/node/test_enrolment.py::test_a_lost_reply_makes_no_second_node",
    ),
    9: (
        f"{_UNIT}/pki/test_roots.py::test_a_bad_root_is_refused_with_its_own_line",
        f"{_UNIT}/pki/test_roots.py::test_a_bad_key_is_refused_with_its_own_line",
    ),
    10: (
        f"{_UNIT}/pki/test_chain.py::test_a_leaf_with_the_cross_signed_root_holds_under_the_old_the_new_and_both",
        f"{_UNIT}/pki/test_roots.py::test_every_kind_of_key_that_is_offered_is_taken",
        f"{_UNIT}/pki/test_roots.py::test_a_root_that_may_have_none_below_it_cannot_cross_sign",
    ),
    11: (
        f"{_UNIT}/pki/test_chain.py::test_the_order_is_checked_also_where_a_root_was_reached",
        f"{_UNIT}/pki/test_chain.py::test_every_link_must_be_in_date",
    ),
    12: (
        f"{_UNIT}/pki/test_roots.py::test_a_root_is_exactly_one_certificate_and_blank_lines_and_headers_do_not_count",
    ),
    13: (
        f"{_UNIT}/pki/test_token_reasons.py",
        f"{_UNIT}/pki/test_tokens.py::test_a_malformed_token_is_refused_and_never_repeated",
    ),
    14: (
        f"{_UNIT}/pki/test_authority.py::test_out_of_date_is_refused_with_both_times",
        f"{_UNIT}/node/test_node.py::test_the_only_manager_renews_a_certificate_that_expired_while_it_was_off",
    ),
    15: (f"{_UNIT}/pki/test_unlock_key.py::test_a_wrong_key_is_told_from_damage",),
    16: (f"{_UNIT}/pki/test_chain.py::test_without_the_cross_signed_root_the_old_one_does_not_cover_it",),
    17: (
        f"{_UNIT}/transport/test_credentials.py::test_replace_changes_new_contexts_and_a_failed_one_changes_nothing",
        f"{_UNIT}/node/test_trust.py::test_a_root_that_does_not_cover_us_is_refused_and_the_old_one_stays",
        f"{_UNIT}/node/test_trust.py::test_a_bundle_of_which_each_root_covers_us_is_taken",
    ),
    18: (f"{_UNIT}/node/test_trust.py::test_the_new_root_is_saved_and_then_used",),
    19: (f"{_UNIT}/node/test_trust.py::test_what_was_refused_is_taken_once_the_certificate_is_one_that_it_covers",),
    20: (f"{_UNIT}/node/test_trust.py::test_a_root_and_a_renewal_that_race_are_both_applied",),
    21: (
        f"{_UNIT}/node/test_renewal.py::test_a_certificate_is_renewed_before_80_percent_of_its_life",
        f"{_UNIT}/manager/test_ca_server.py",
    ),
    22: (
        f"{_UNIT}/node/test_renewal.py::test_rotate_in_a_session_message_forces_a_renewal",
        f"{_UNIT}/node/test_renewal.py::test_another_role_than_expected_is_kept_in_use_and_not_announced",
    ),
    23: (f"{_UNIT}/manager/loops/test_root_rotation.py::test_the_next_leader_goes_on_wherever_the_last_one_stopped",),
    24: (
        f"{_UNIT}/manager/loops/test_signer.py::test_a_joiner_waits_at_the_door_and_gets_the_external_cas_certificate",
        f"{_UNIT}/node/test_enrolment.py::test_a_failed_request_ends_it_with_the_servers_reason",
    ),
    25: (
        "tests/threats/test_live.py::test_threat_05_a_token_that_was_rotated_lets_nobody_in_on_any_manager",
        "tests/threats/test_live.py::test_threat_09_equal_names_of_another_ca_and_another_swarm_of_this_one",
    ),
    26: (f"{_UNIT}/manager/test_autolock.py::test_the_key_is_never_stale",),
    27: (
        f"{_UNIT}/manager/test_external_ca.py::test_a_renewed_certificate_is_shown_from_the_next_call_on",
        f"{_UNIT}/manager/test_external_ca.py::test_while_the_root_is_rotated_those_for_the_new_one_are_asked",
    ),
    28: (
        f"{_UNIT}/manager/loops/test_root_rotation.py::test_one_that_joins_meanwhile_is_waited_for_until_it_was_seen",
        f"{_UNIT}/manager/loops/test_root_rotation.py::test_a_node_that_is_down_is_waited_for_and_removing_it_ends_the_wait",
    ),
    29: (
        f"{_UNIT}/manager/loops/test_root_rotation.py::test_five_leaders_and_ten_wishes_in_a_row_end_with_the_last",
        f"{_UNIT}/manager/loops/test_root_rotation.py::test_thirty_nodes_are_told_at_once_and_thirty_more_every_three_seconds",
    ),
    30: (
        f"{_UNIT}/manager/test_external_ca.py::test_cross_signing_uses_the_profile_ca_and_the_answer_holds",
        f"{_UNIT}/manager/test_external_ca.py::test_five_seconds_are_what_a_signer_gets",
        f"{_UNIT}/manager/test_external_ca.py::test_a_reply_is_cut_at_256_kib",
    ),
    31: (
        f"{_UNIT}/storage/test_disk_keys.py::test_whatever_fails_in_whatever_order_some_key_opens_everything_and_nothing_is_lost",
    ),
    32: (
        f"{_UNIT}/storage/test_disk_keys.py::test_at_every_point_of_a_change_the_old_key_or_the_new_one_opens_both_files",
    ),
    34: (
        f"{_UNIT}/pki/test_unlock_key.py::test_each_way_of_not_being_a_key_has_its_own_reason_that_repeats_nothing",
        f"{_UNIT}/storage/test_sealing.py::test_another_member_swarm_or_key_opens_nothing",
    ),
    35: (
        f"{_UNIT}/manager/test_key_rotation.py::test_a_crash_at_any_point_leaves_all_readable_and_the_next_life_finishes",
    ),
    36: (f"{_UNIT}/pki/test_unlock_key.py::test_the_truth_table_of_two_unlock_keys",),
    37: (f"{_UNIT}/pki/test_unlock_key.py::test_a_wrong_key_is_told_from_damage",),
    38: ("tests/e2e/test_autolock.py::test_turned_on_it_leaves_nothing_on_any_managers_disk_in_clear",),
    39: (
        "tests/e2e/test_revocation.py::test_a_removed_workers_connections_are_cut_and_every_door_is_shut",
        f"{_UNIT}/transport/test_every_door.py::test_these_do_not_come_in_at_all",
    ),
    40: (f"{_UNIT}/manager/test_key_rotation.py::test_in_the_middle_of_a_rotation_neither_key_alone_opens_the_log",),
    41: (
        f"{_UNIT}/pki/test_root_update.py::test_what_is_refused_says_why",
        f"{_UNIT}/manager/control_api/test_cluster_update.py::test_what_is_refused",
    ),
    42: (
        f"{_UNIT}/manager/control_api/test_cluster_update.py::test_tokens_and_unlock_key_together",
        f"{_UNIT}/manager/control_api/test_cluster_update.py::test_no_key_leaves_while_a_rotation_is_under_way",
    ),
    43: (
        f"{_UNIT}/model/test_validate_kinds.py::test_secrets_and_configs_begin_and_end_with_a_letter_or_digit",
        f"{_UNIT}/manager/control_api/test_secrets.py::test_no_entry_holds_a_payload_and_no_reply_any_of_the_sealing",
        f"{_UNIT}/manager/control_api/test_secrets.py::test_a_secret_that_a_service_refers_to_stays_and_the_service_is_named",
        f"{_UNIT}/manager/control_api/test_secrets.py::test_what_the_swarm_made_for_itself_is_shown_to_nobody_and_touched_by_nobody",
    ),
    47: (
        f"{_UNIT}/node/test_identity.py::test_half_of_an_identity_that_was_in_use_is_refused",
        f"{_UNIT}/node/test_unlocking.py::test_reading_a_locked_log_offline_needs_the_key_too",
    ),
    48: (
        "tests/e2e/test_root_rotation.py::test_a_node_that_was_away_is_waited_for_and_comes_back_unaided",
        "tests/e2e/test_root_rotation.py::test_a_root_is_brought_and_replaced_before_it_is_there_and_the_last_wish_holds",
    ),
    49: (f"{_UNIT}/manager/test_proxy.py::test_a_call_that_was_passed_on_once_is_not_passed_on_again",),
    50: (f"{_UNIT}/node/test_unlocking.py::test_reading_a_locked_log_offline_needs_the_key_too",),
}

WHY_NOT: Final[dict[int, str]] = {
    33: "no FIPS mode: one set of algorithms, all of them approved ones",
    44: "drivers of secrets: a later issue",
    45: "workers are not given secrets yet",
    46: "there is no template engine yet",
}
"""Scenarios without a test, or with less than the whole."""
