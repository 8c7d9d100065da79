"""Where each bad input of the list that the readers are held to is tested: numbers 1-121, in the order DICOM files, HL7, logs, audit XML, exports, keys, folders and archives, faults."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
# Those whose test has the number in its name, or beside its content, are found by it.
ELSEWHERE = {
    "readers/test_hl7log.py": {
        49: "test_any_line_end_separates_segments", 50: "test_a_frame_without_its_end_is_flagged_and_both_messages_kept",
        51: "test_a_message_cut_by_the_end_of_the_file_is_flagged_or_rejected", 52: "test_line_feed_in_a_report_hides_nothing",
        53: "test_carriage_return_in_a_note_is_part_of_it", 54: "test_text_is_right_whatever_the_header_says_of_it", 55: "test_each_message_has_its_own_character_set",
        56: "test_byte_order_mark_costs_no_message", 57: "test_utf_16_is_read_and_places_are_those_of_the_file", 58: "test_one_control_id_with_two_contents_and_one_content_twice",
        59: "test_one_control_id_with_two_contents_and_one_content_twice", 61: "test_times_keep_their_precision_and_doubts", 65: "test_delimiters_are_the_messages_own",
        66: "test_segments_without_a_header_are_rejected_with_their_place", 67: "test_log_lines_between_segments_are_rejected_and_the_message_kept",
        68: "test_log_words_before_every_segment_are_taken_off", 72: "test_escapes_are_undone_and_wrong_ones_kept", 74: "test_a_file_without_messages_is_one_rejected_row",
        75: "test_batch_trailer_is_held_against_the_messages", 76: "test_nuls_are_taken_out_and_flagged", 77: "test_indented_segments_are_read",
        78: "test_packed_files_keep_all_whole_messages", 79: "test_header_of_seven_fields",
    },
    "readers/test_dicomlog_bad_input.py": {
        80: "test_line_being_written_is_read_when_it_is_whole", 81: "test_processes_that_interleave_are_told_apart_by_their_id", 82: "test_stack_trace_belongs_to_the_line_above",
        83: "test_bytes_that_are_no_text_are_one_row_and_the_rest_is_read", 84: "test_clock_that_is_set_back_marks_what_is_open_and_lines_keep_their_order",
        86: "test_line_ends_of_old_macs_change_nothing", 87: "test_line_of_another_layout_is_one_row_and_shows_no_value",
        88: "test_clock_without_date_waits_for_one_and_rolls_at_midnight", 89: "test_two_packed_members_are_one_log_and_bytes_behind_them_are_told",
        90: "test_terminal_codes_in_a_title_are_escaped", 91: "test_packed_bomb_stops_at_the_limit", 92: "test_rotated_files_are_read_oldest_first_and_copied_lines_once",
    },
    "readers/test_auditlog.py": {
        93: "test_messages_follow_each_other_in_any_wrapping", 94: "test_one_bad_message_of_three_is_rejected_and_the_others_are_kept",
        95: "test_document_types_and_entities_are_rejected_before_parsing", 96: "test_document_types_and_entities_are_rejected_before_parsing",
        97: "test_text_is_right_whatever_the_prolog_says", 98: "test_names_of_rfc_3881_and_namespaces_are_known", 99: "test_times_keep_their_offset_and_doubts",
    },
    "readers/test_header_faults.py": {
        118: "test_a_share_that_vanishes_stops_the_load_with_how_far_it_came", 119: "test_a_file_that_does_not_stop_changing_is_kept_and_marked",
        120: "test_a_name_that_means_another_file_than_was_listed_is_rejected",
    },
    "test_store.py": {121: "test_an_update_killed_at_any_call_goes_on_without_loss_or_double_count"},
}


def numbers_of(path):
    """Numbers in the names of a file's tests, `test_111_and_112_...`, and those that its table of contents gives."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    beside = [str(row.elts[0].value) for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.List) and path.name.endswith("bad_input.py")
              for row in node.value.elts if isinstance(row, ast.Tuple) and isinstance(row.elts[0], ast.Constant)]
    numbers = [n for name in names if (found := re.match(r"test((?:_\d+)(?:_and_\d+)*)_", name)) for n in re.findall(r"\d+", found[1])]
    return {int(number.split()[0]) for number in (*numbers, *beside) if number[0].isdigit()}, set(names)


def test_every_bad_input_has_a_test():
    found = {path.relative_to(TESTS).as_posix(): numbers_of(path) for path in TESTS.rglob("test_*.py")}
    numbered = set().union(*(numbers for numbers, _ in found.values()))
    for file, tests in ELSEWHERE.items():
        assert set(tests.values()) <= found[file][1], file
        numbered |= set(tests)
    assert set(range(1, 122)) <= numbered, f"no test of {sorted(set(range(1, 122)) - numbered)}"
