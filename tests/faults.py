"""What can go wrong, what holds then, and what has tried it how often: the table in tests/README.md."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hostile
from soak import RESULTS
from tables import table

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Fault:
    """Something that happens to galleries."""

    what: str
    holds: str
    """What is so nevertheless."""

    tests: str
    """Words: a file of tests, or one test of it: `locks faults::a_full_disk`."""

    soak: str = ""
    """The part of `make soak` that tries it at length."""


FAULTS = (
    Fault(
        "`kill -9` at any moment of an ingest",
        "the batch in flight is lost, no more. Left are the run's folder, whose record says `running`, a lock "
        "file that locks nothing, and SQLite's log; `PRAGMA integrity_check` is ok, the CSV backup is whole; "
        "the next run makes what an uninterrupted one would have made: rows, vectors, matches",
        "faults::kills_at_ten_moments_cost_nothing stores::a_killed_write_leaves_what_nobody_sees "
        "stores::a_killed_join_leaves_segments_that_do_not_count "
        "upgrades::a_torn_last_row_of_an_older_folder_does_not_count "
        "upgrades::an_upgrade_that_was_killed_before_its_last_step_is_finished "
        "locks::another_process_is_waited_for_by_name",
        "kills",
    ),
    Fault(
        "`kill -9` while the index of exact search is made, or follows the store; no space for it",
        "what it leaves is not used, and goes with the next one; without space, vectors are searched in memory",
        "following::a_kill_while_it_is_made_costs_nothing following::what_cannot_be_written_is_searched_in_memory "
        "following::an_older_index_that_is_damaged_is_not_followed files::what_a_killed_run_left_is_removed "
        "files::a_folder_that_cannot_be_written_costs_nothing",
        "following",
    ),
    Fault(
        "with `engine=ray`: a process or a machine of the cluster is lost, the ingest itself is killed, a file "
        "kills each process that takes it",
        "what was lost is done again by others, to the last bit; the next run goes on; such a file is recorded as "
        "failed, and no other. Nothing of Ray is left running",
        "ray::a_killed_process_and_a_lost_node_cost_nothing ray::a_killed_driver_goes_on "
        "ray::a_file_that_ends_processes_is_recorded_and_no_other ray::ctrl_c_ends_the_run_and_its_own_cluster",
    ),
    Fault(
        "`kill -9` of a writer to `store=lance`, several writers at once, in a folder and on two S3 servers",
        "every batch is there whole and once, or not at all; there is no lock, and the next writer goes on",
        "lance::writers_are_killed_in_object_storage lance::four_write_at_once_to_object_storage "
        "lance::writers_are_killed_and_write_at_once_in_a_folder_without_a_lock "
        "lance::what_a_commit_that_never_came_has_left_is_not_in_the_next",
        "writers",
    ),
    Fault(
        "Ctrl-C",
        "nobody waits for the batch in flight; the summary, exit code 130, and the next run goes on",
        "faults::after_ctrl_c_nobody_waits_for_a_batch_that_takes_long "
        "faults::ctrl_c_between_batches_keeps_what_was_written "
        "cli::ctrl_c_keeps_what_was_done_and_the_next_run_goes_on",
    ),
    Fault(
        "a full disk, a store or a medium that turns read-only, a source that vanishes, an extractor that raises",
        "one line and exit code 1; what was written stays, and the next run goes on. What vanished is missing, "
        "not forgotten",
        "faults::a_full_disk faults::a_store_that_turns_read_only "
        "stores::a_store_on_a_read_only_medium_is_read stores::a_full_disk_leaves_the_folder_as_it_was "
        "faults::a_source_that_vanishes_takes_nothing_with_it "
        "faults::a_folder_that_vanishes_while_it_is_read_is_missing "
        "faults::an_extractor_that_raises_in_the_middle ingest::an_extractor_that_breaks_its_contract_is_named",
    ),
    Fault(
        "eight recommend beside an ingest; several ingests of one store; a sweep's jobs side by side",
        "readers never fail and never see half a batch; writers take turns and say for whom they wait; nothing "
        "is extracted twice",
        "stores::readers_beside_joins stores::a_snapshot_holds_while_all_of_it_is_joined "
        "faults::eight_recommend_beside_an_ingest "
        "faults::ingests_of_one_store_take_turns_and_the_second_finds_what_the_first_extracted "
        "faults::jobs_of_a_sweep_side_by_side_extract_once stores::a_snapshot_is_of_one_moment "
        "files::searches_beside_an_ingest_make_none cli::two_runs_at_once locks",
    ),
    Fault(
        f"{len(hostile.FILES) + len(hostile.NAMES) + len(hostile.ODD)} hostile and odd files in one ingest: "
        "bombs, torn files, pipes, devices, link loops, names that are no text",
        "each is read, or recorded with its reason; nothing hangs; below 1 GiB",
        "hostile::an_ingest_of_all_of_them hostile::memory_is_told_before_decoding "
        "hostile::scans_of_a_jpeg_are_counted hostile::a_pipe_or_a_device_is_never_waited_for "
        "hostile::folders_a_thousand_deep_are_searched cli::odd_names_work_as_source_and_as_query",
    ),
    Fault(
        "every kind of picture in the table of how images are read",
        "pixels that were worked out by hand, all eight orientations in four formats among them",
        "hostile::decoded_pixels_are_those_worked_out_by_hand "
        "hostile::jpeg_of_every_coding_and_ink_has_its_colours hostile::the_first_picture_of_an_mpo_is_taken "
        "hostile::orientation_is_that_of_the_exif_standard "
        "hostile::a_large_picture_is_converted_part_by_part_and_is_the_same images heif raw jxl "
        "tiff_pixels png jpeg2000 avif raw_formats",
    ),
    Fault(
        "photographs with bytes changed, cut out, put in",
        "read, or refused with a reason: no crash, no hang, below 1 GiB",
        "hostile::three_hundred_altered_files_are_read_or_refused hostile::a_process_that_dies_is_seen",
        "fuzz",
    ),
    Fault(
        "damage beside the pixels (EXIF, text, profiles, unknown tags, their checksums), in every format",
        "the picture is read, and turned where EXIF still says so",
        "metadata",
    ),
    Fault(
        "damage in the pixels that a decoder only warns of",
        "read and marked, with the file's name, or refused; a JPEG that lacks only its end marker is read",
        "damage",
    ),
    Fault(
        "files that change or vanish while they are read",
        "a record belongs to the bytes that were read, or there is none",
        "hostile::a_file_that_changes_while_it_is_read_is_refused "
        "hostile::what_is_recorded_belongs_to_what_was_read "
        "hostile::a_file_that_vanishes_is_missing_and_not_forgotten "
        "hostile::files_that_are_written_all_the_time_are_recorded_as_they_were_or_not_at_all",
    ),
    Fault(
        "vectors of another model, other weights under its name, another preprocessing, decoding or projection",
        "never compared: the error names both, and what to do",
        "spaces fitted similarity",
    ),
    Fault(
        "a new version of imgrec gives some formats other pixels",
        "searches tell of images of older decoding; the next ingest decodes these anew, and no others",
        "versions::only_what_a_change_concerns_is_decoded_anew_and_it_is_told_once "
        "versions::the_vectors_are_those_of_the_new_pixels versions::each_space_has_its_turn "
        "versions::what_is_outside_of_the_source_waits_for_its_own_ingest "
        "versions::a_copy_moved_or_touched_afterwards_costs_no_extraction versions::versions_are_of_suffixes",
    ),
    Fault(
        "files that are missing or may not be read any more",
        "marked; `prune=true` forgets those that are gone for certain, above half of the gallery, or where the "
        "drive may be unplugged, only with `force=true`",
        "faults::what_may_not_be_read_is_told_and_never_forgotten "
        "faults::pruning_forgets_what_is_missing_below_the_source "
        "faults::pruning_more_than_half_of_the_gallery_is_refused "
        "ingest::a_missing_file_comes_back_and_a_broken_one_is_mended ingest::an_emptied_folder_is_missing "
        "exclusion::a_folder_that_is_deleted_is_missing_and_forgotten_on_request "
        "exclusion::a_drive_that_is_unplugged_loses_nothing "
        "exclusion::of_an_older_gallery_it_is_not_known_where_a_source_was",
    ),
    Fault(
        "folders of thumbnails and deleted files, imgrec's own pictures, what is excluded, formats that nothing "
        "reads",
        "not taken, or counted by suffix; what was ingested before is marked as missing, and nothing is deleted",
        "exclusion",
    ),
    Fault(
        "object storage and the web: servers that are busy, break off or cannot be reached, a bucket that is "
        "gone, objects that change while they are read",
        "asked again, with pauses; what is not read is tried the next time, and no record is of two states. A "
        "bucket out of reach is missing, not forgotten. No credentials in records, messages and stores",
        "remote::a_server_that_is_busy_is_asked_again "
        "remote::a_body_that_breaks_off_is_asked_for_again_and_else_read_the_next_time "
        "remote::an_object_that_changes_while_it_is_read_is_never_half_of_each "
        "remote::a_bucket_that_is_gone_for_a_while_is_as_an_unplugged_drive "
        "remote::a_server_that_cannot_be_reached_is_waited_for_once "
        "remote::credentials_are_recorded_nowhere "
        "addresses::what_is_gone_from_the_web_is_missing_and_told "
        "addresses::a_server_that_is_busy_is_asked_again_and_what_breaks_off_is_tried_the_next_time "
        "addresses::the_own_network_is_closed_unless_the_environment_opens_it "
        "tar::an_archive_that_is_cut_off_costs_what_is_cut_off "
        "tar::an_archive_that_is_written_while_it_is_read_gives_whole_files",
        "keys",
    ),
    Fault(
        "files that cannot be read",
        "listed by `failures`, tried again when they change, when what reads files does, or when asked",
        "failures versions::what_was_refused_is_read_again_only_after_a_change_of_it_or_of_what_reads_it",
    ),
    Fault(
        "galleries, derived files and backups that are damaged in some way",
        "`verify` tells what is wrong; `fix=true` repairs what can be derived, from the backup or the files",
        "verify files::a_damaged_one_is_never_trusted",
    ),
    Fault(
        "galleries of older and newer versions",
        "an older one is migrated in a transaction, with a copy beside it; a newer one is refused and left alone",
        "upgrades stores::a_foreign_or_newer_database_is_refused_and_left_alone",
    ),
    Fault(
        "galleries, records, labels, pictures and checkpoints with code in them",
        "nothing of it is run",
        "security",
    ),
    Fault(
        "requests to `imgrec explore` by other names, from other sites, without a token; paths that lead out; "
        "bodies of 33 MB or that come slowly, bombs, SVG; 500 connections that say nothing",
        "each is refused whole, with less than 300 MB more memory, and others are answered meanwhile",
        "serving_safety",
    ),
    Fault(
        "a folder that changes for months",
        "the gallery is after each ingest as one that is built from nothing",
        "faults::a_gallery_that_follows_changes_is_as_one_built_from_nothing ingest::every_change_is_recognised",
        "rounds",
    ),
)


def fault_table() -> str:
    """Each fault with the number of its test cases, as pytest collects them, and what `make soak` has told."""
    tests = {fault: [_identity(word) for word in fault.tests.split()] for fault in FAULTS}
    cases = _collect({test for each in tests.values() for test in each})
    soaked = json.loads(RESULTS.read_text())
    rows = []
    for fault in FAULTS:
        count = sum(
            case.startswith((f"{test}::", f"{test}[")) or case == test for case in cases for test in tests[fault]
        )
        told = soaked[fault.soak] if fault.soak else None
        rows.append([fault.what, fault.holds, f"{count:,}", f"{told['told']} ({told['day']})" if told else ""])
    return table(["what happens", "what holds", "tests", "`make soak`"], rows)


def _identity(word: str) -> str:
    """As pytest has it."""
    file, _, test = word.partition("::")
    return f"tests/test_{file}.py" + (f"::test_{test}" if test else "")


def _collect(tests: set[str]) -> list[str]:
    """The cases of tests; of one that is not there, pytest's own error."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *sorted(tests)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return [line for line in done.stdout.splitlines() if "::" in line]
