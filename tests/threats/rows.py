"""Reference security 8, row by row: the tests that play it. `test_tables.py` checks that they exist.

A row that a live swarm meets at a door has its `test_threat_NN_...` in `test_live.py`; one that is about a disk, a key
file, a signer or a clock is played by the tests named here; where something is missing, `MISSING` says what.
"""

from __future__ import annotations

from typing import Final

LIVE: Final = "tests/threats/test_live.py"
_UNIT: Final = "tests/unit"

ROWS: Final[dict[int, tuple[str, ...]]] = {
    1: (LIVE, f"{_UNIT}/manager/test_wrong_tokens.py", f"{_UNIT}/pki/test_tokens.py::test_the_token_gives_the_role"),
    2: (LIVE, f"{_UNIT}/node/test_enrolment.py::test_a_manager_that_shows_another_root_is_sent_nothing"),
    3: (LIVE, f"{_UNIT}/pki/test_token_reasons.py", f"{_UNIT}/pki/test_tokens.py"),
    4: (LIVE, "tests/e2e/test_joining.py"),
    5: (
        LIVE,
        f"{_UNIT}/manager/loops/test_root_rotation.py::test_an_old_token_is_refused_after_a_rotation_and_taken_during_it",
    ),
    6: (LIVE, f"{_UNIT}/transport/test_every_door.py::test_what_a_node_may_call"),
    7: (LIVE, f"{_UNIT}/transport/test_every_door.py::test_without_a_certificate"),
    8: (LIVE, f"{_UNIT}/transport/test_every_door.py::test_nor_does_a_certificate_out_of_its_time"),
    9: (LIVE, f"{_UNIT}/transport/test_listener.py::test_a_node_of_another_swarm_under_the_same_root_may_call_nothing"),
    10: (LIVE, f"{_UNIT}/pki/test_authority.py::test_only_the_key_is_taken_from_a_request"),
    11: (LIVE, f"{_UNIT}/pki/test_authority.py::test_other_kinds_of_key_are_refused"),
    12: (LIVE,),
    13: (LIVE, "tests/e2e/test_revocation.py::test_a_removed_workers_connections_are_cut_and_every_door_is_shut"),
    14: (LIVE, "tests/e2e/test_revocation.py::test_a_demoted_managers_old_certificate_is_a_workers_at_once"),
    15: (LIVE, f"{_UNIT}/manager/dispatcher/test_sessions.py::test_calls_with_another_nodes_session_are_refused"),
    16: (LIVE, f"{_UNIT}/transport/test_every_door.py::test_what_a_manager_may_pass_on"),
    17: (LIVE,),
    18: (LIVE, f"{_UNIT}/transport/test_credentials.py::test_older_tls_is_refused"),
    19: (
        LIVE,
        f"{_UNIT}/transport/test_listener.py::test_silent_sockets_take_no_place_from_others",
        f"{_UNIT}/transport/test_connection_limits.py::test_silent_sockets_of_one_network_never_take_all_places",
        f"{_UNIT}/transport/test_floods.py::test_an_upgrade_that_goes_on_for_ever_is_cut_after_its_limit",
    ),
    20: (
        LIVE,
        f"{_UNIT}/transport/test_listener.py::test_endless_empty_fragments_are_cut_off",
        f"{_UNIT}/transport/test_floods.py::test_compression_is_declined_and_a_compressed_frame_ends_the_connection",
    ),
    21: (
        LIVE,
        f"{_UNIT}/wire/test_codec.py::test_any_bytes_are_either_plain_data_or_invalid",
        "tests/absurd/test_absurd_requests.py::test_whatever_is_asked_is_answered_or_refused",
        "tests/fuzz/test_seeds.py",
    ),
    22: (LIVE, f"{_UNIT}/model/test_validate_references.py::test_a_target_is_one_component_of_a_path"),
    23: (LIVE, f"{_UNIT}/model/test_validate_kinds.py::test_secrets_and_configs_begin_and_end_with_a_letter_or_digit"),
    24: (LIVE, f"{_UNIT}/model/test_validate_kinds.py::test_a_payload_is_neither_empty_nor_too_large"),
    25: (),
    26: (
        LIVE,
        f"{_UNIT}/manager/control_api/test_secret_fields.py::test_bytes_are_secret_until_somebody_decides_otherwise",
        f"{_UNIT}/manager/test_redaction_doors.py::test_every_method_tells_what_is_documented_and_no_more",
    ),
    27: (
        f"{_UNIT}/storage/test_log_store.py::test_a_changed_value_in_any_row_is_damage",
        f"{_UNIT}/storage/test_log_store.py::test_a_row_put_back_from_an_earlier_time_is_damage",
        f"{_UNIT}/storage/test_log_store.py::test_a_changed_byte_anywhere_in_the_file_never_changes_what_is_loaded",
        f"{_UNIT}/storage/test_snapshot_store.py::test_chunks_left_out_exchanged_repeated_or_added_are_damage",
    ),
    28: (
        f"{_UNIT}/pki/test_unlock_key.py::test_a_wrong_key_is_told_from_damage",
        f"{_UNIT}/storage/test_disk_keys.py::test_a_changed_byte_is_damage_and_never_a_wrong_key_nor_a_traceback",
        f"{_UNIT}/storage/test_disk_keys.py::test_a_file_cut_short_is_damage",
        f"{_UNIT}/storage/test_disk_keys.py::test_nothing_secret_is_printed",
    ),
    29: (
        f"{_UNIT}/node/test_unlock_key_fetch.py::test_an_answer_that_is_none_is_a_failure_at_once",
        f"{_UNIT}/node/test_unlock_key_fetch.py::test_a_joiner_that_is_not_told_saves_no_key_at_all",
    ),
    30: (
        f"{_UNIT}/node/test_trust.py::test_a_root_that_does_not_cover_us_is_refused_and_the_old_one_stays",
        f"{_UNIT}/node/test_trust.py::test_each_root_must_cover_the_chain_by_itself",
    ),
    31: (
        f"{_UNIT}/manager/dispatcher/test_seen_certificate.py::test_it_is_the_fingerprint_of_what_was_shown",
        f"{_UNIT}/manager/dispatcher/test_seen_certificate.py::test_a_root_of_the_same_name_is_no_proof",
    ),
    32: (
        f"{_UNIT}/pki/test_issued.py::test_whatever_else_a_signer_sends_is_refused_with_the_reason",
        f"{_UNIT}/manager/test_external_ca.py::test_a_reply_is_cut_at_256_kib",
        f"{_UNIT}/manager/test_external_ca.py::test_a_redirect_is_not_followed",
        f"{_UNIT}/manager/loops/test_signer.py::test_a_certificate_that_was_not_asked_for_is_never_stored",
    ),
    33: (
        LIVE,
        f"{_UNIT}/pki/test_authority.py::test_out_of_date_is_refused_with_both_times",
        f"{_UNIT}/pki/test_authority.py::test_a_certificate_starts_an_hour_early_and_ends_in_time",
        f"{_UNIT}/pki/test_chain.py::test_a_leafs_own_dates_are_told_with_both_clocks",
    ),
    34: (
        LIVE,
        f"{_UNIT}/manager/test_join_limits.py::test_one_too_many_makes_no_record_and_is_told_when_to_come_again",
        f"{_UNIT}/manager/test_join_limits.py::test_a_crowd_of_joiners_all_get_in_at_the_rate_of_the_limit",
    ),
    35: (
        LIVE,
        f"{_UNIT}/transport/test_control_group.py::test_a_symlink_at_the_path_is_left_alone_even_to_a_dead_socket",
    ),
    36: (LIVE, f"{_UNIT}/transport/test_expiry.py::test_it_ends_at_the_very_end_and_says_why"),
}

MISSING: Final[dict[int, str]] = {
    13: "the live connections of a removed node are watched on one manager here, on all in e2e/test_revocation.py",
    14: "demoting itself is played in e2e/test_revocation.py; here is a certificate made for the purpose",
    15: "attachments and logs: there are neither yet; of a mixed batch the node's own part is applied on purpose",
    19: "5,000 sockets are some 230 here; who has eight networks of its own holds up others' handshakes, for 10 s",
    22: "the worker's second line: no task is given secrets yet",
    25: "there is no template engine yet",
    30: "the audit record",
    32: "the audit record",
    33: "both times in one message where TLS itself refuses: OpenSSL tells no dates; a manager whose clock is wrong",
    34: "10,000 joins are 60 at the live swarm: what limits more of them, and how joiners then behave, is pure",
}
"""What a row asks for and its tests do not show."""
