"""The cases of the tests of Phoenix.PubSub and Phoenix.Tracker, and which test covers each."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {
    "pubsub/shared/pubsub_test": 13,
    "pubsub/pubsub_test": 2,
    "pubsub/distributed_pubsub_test": 5,
    "pubsub/tracker_test": 1,
    "pubsub/tracker/clock_test": 6,
    "pubsub/tracker/replica_test": 7,
    "pubsub/tracker/state_test": 15,
    "pubsub/tracker/delta_generation_test": 7,
    "pubsub/tracker/shard_test": 2,
    "pubsub/tracker/pool_test": 7,
    "pubsub/tracker/shard_replication_test": 18,
}


def _by(test: str) -> Covered:
    return Covered(f"../../{test}")


def _adapters(test: str) -> Covered:
    return _by(f"contracts/test_pubsub_adapters.py::{test}")


def _pubsub(test: str) -> Covered:
    return _by(f"channels/pubsub/test_pubsub.py::{test}")


def _presence(module: str, test: str) -> Covered:
    return _by(f"channels/presence/test_{module}.py::{test}")


_THERE_IS_NO_POOL = NotPortable(
    "a node has one dispatcher in one thread, and lanes instead of a pool of senders"
)
_NO_COMPARISON = NotPortable(
    "no clock is compared as a whole: a node asks for the parts that it lacks"
)
_NO_OWN_MESSAGES = NotPortable("the tracker is no base class of the application's own process")

CASES: Cases = {
    "pubsub/shared/pubsub_test": {
        "L60 node_name/1 returns the node name": _adapters(
            "test_each_node_knows_the_others_by_name_and_incarnation"
        ),
        "L66 pool <1|8>: subscribe and unsubscribe": _pubsub(
            "test_unsubscribing_drops_all_of_ones_own_and_only_those"
        ),
        "L76 pool <1|8>: broadcast/3 and broadcast!/3 publishes message to each subscriber": _pubsub(
            "test_a_broadcast_reaches_the_subscribers_of_its_topic_in_order"
        ),
        "L86 pool <1|8>: broadcast/3 does not publish message to other topic subscribers": _adapters(
            "test_other_topics_are_not_delivered"
        ),
        "L99 pool <1|8>: broadcast_from/4 and broadcast_from!/4 skips sender": _pubsub(
            "test_a_sender_is_left_out_whatever_it_has_subscribed"
        ),
        "L110 pool <1|8>: unsubscribe on not subscribed topic noops": _by(
            "channels/pubsub/test_local.py::"
            "test_removing_drops_every_subscription_to_a_topic_and_none_is_no_error"
        ),
        "L116 pool <1|8>: direct_broadcast sends to given node": _adapters(
            "test_a_direct_broadcast_reaches_only_its_node"
        ),
        "L127 pool <1|8>: direct_broadcast sends to unknown node": _adapters(
            "test_a_direct_broadcast_reaches_only_its_node"
        ),
        "L138 pool <1|8>: local_broadcast sends to the current node": _adapters(
            "test_a_local_broadcast_stays_here"
        ),
        "L146 pool <1|8>: local_broadcast_from/5 skips sender": _by(
            "channels/pubsub/test_fastlane.py::test_the_sender_is_left_out_with_and_without_a_fastlane"
        ),
        "L154 pool <1|8>: with custom dispatching": _pubsub(
            "test_a_dispatcher_gets_the_subscriptions_and_its_errors_are_the_broadcasters"
        ),
        "L182 PubSub pool size can be configured separately from the Registry partitions": _THERE_IS_NO_POOL,
        "L191 Registry partitions are configured with the same pool size as PubSub if not specified": _THERE_IS_NO_POOL,
    },
    "pubsub/pubsub_test": {
        "L5 expects a name": NotPortable("a PubSub is an object that is handed on, without a name"),
        "L12 pool_size can't be smaller than broadcast_pool_size": _THERE_IS_NO_POOL,
    },
    "pubsub/distributed_pubsub_test": {
        "L15 broadcast targets all nodes": _adapters(
            "test_a_broadcast_reaches_every_node_once_and_the_senders_too"
        ),
        "L28 local_broadcast targets current nodes": _adapters("test_a_local_broadcast_stays_here"),
        "L38 direct_broadcast targets a specific node": _adapters(
            "test_a_direct_broadcast_reaches_only_its_node"
        ),
        "L52 broadcast is received by other node that has pool_size > broadcast_pool_size": _THERE_IS_NO_POOL,
        "L60 broadcast is received by other node that was broadcast from node that has "
        "broadcast_pool_size < pool_size": _THERE_IS_NO_POOL,
    },
    "pubsub/tracker_test": {
        "L10 generates child spec": _presence(
            "presence", "test_a_child_spec_runs_a_presence_without_an_endpoint"
        ),
    },
    "pubsub/tracker/clock_test": {
        "L5 dominates?": _NO_COMPARISON,
        "L15 test the set trims": _presence(
            "clock", "test_one_node_that_has_everything_is_asked_alone"
        ),
        "L30 upperbound": _presence(
            "clock", "test_the_upper_bound_has_the_newest_version_of_each_part"
        ),
        "L38 lowerbound": NotPortable("the set never needs the lower bound of two clocks"),
        "L46 filter replicas": _presence(
            "clock", "test_parts_of_unknown_nodes_and_of_other_incarnations_are_not_asked_for"
        ),
        "L53 replicas": _presence(
            "state", "test_an_answer_has_only_parts_that_the_other_node_knows_and_lacks"
        ),
    },
    "pubsub/tracker/replica_test": {
        "L5 new/1 returns a new Replica with unique vsn": _presence(
            "clock", "test_noise_separates_two_starts_at_the_same_time"
        ),
        "L15 ref/1 returns a tuple of {name, vsn}": _presence(
            "replica", "test_the_first_heartbeat_of_a_node_brings_it_up"
        ),
        "L19 put_heartbeat/2 with no previously tracked name": _presence(
            "replica", "test_the_first_heartbeat_of_a_node_brings_it_up"
        ),
        "L29 put_heartbeat/2 with previously tracked name": _presence(
            "replica", "test_a_newer_incarnation_replaces_the_older_one"
        ),
        "L44 detect_down/4 with temporarily downed node": _presence(
            "replica", "test_a_node_is_down_after_its_period_and_not_before"
        ),
        "L55 detect_down/4 with permanently downed node removes from replicas map": _presence(
            "replica", "test_a_node_that_stays_silent_is_forgotten"
        ),
        "L66 detect_down/4 with up node": _presence(
            "replica", "test_a_node_is_down_after_its_period_and_not_before"
        ),
    },
    "pubsub/tracker/state_test": {
        "L27 that this is set up correctly": _presence("state", "test_a_new_set_is_empty"),
        "L33 user added online is online": _presence(
            "state", "test_a_tracked_key_is_visible_at_once"
        ),
        "L42 users from other servers merge": _presence(
            "state", "test_members_of_other_nodes_are_merged"
        ),
        "L112 basic netsplit": _presence("state", "test_a_netsplit_heals"),
        "L146 joins are observed via other node": _presence(
            "tracker", "test_a_node_learns_of_joins_and_leaves_through_a_third_one"
        ),
        "L168 removes are observed via other node": _presence(
            "tracker", "test_a_node_learns_of_joins_and_leaves_through_a_third_one"
        ),
        "L198 get_by_pid": _presence("state", "test_an_owner_leaves_with_all_its_entries"),
        "L215 get_by_key": _presence("presence", "test_get_by_key_returns_the_metas_of_one_key"),
        "L232 get_by_topic": _presence(
            "nodes", "test_a_list_has_the_members_of_the_nodes_that_are_up"
        ),
        "L287 remove_down_replicas": _presence(
            "state", "test_a_removed_node_leaves_nothing_behind"
        ),
        "L310 basic deltas": _presence(
            "state", "test_a_delta_has_the_changes_since_the_last_flush"
        ),
        "L338 deltas are not merged for non-contiguous ranges": _presence(
            "state", "test_changes_after_a_gap_are_not_merged_but_reported"
        ),
        "L348 extracted state context contains only replicas known to remote replica": _presence(
            "state", "test_an_answer_has_only_parts_that_the_other_node_knows_and_lacks"
        ),
        "L368 merging deltas": _by(
            "properties/test_presence_state.py::"
            "test_changes_together_have_the_effect_of_each_in_its_turn"
        ),
        "L392 merging deltas with removes": _by(
            "properties/test_presence_state.py::"
            "test_changes_together_have_the_effect_of_each_in_its_turn"
        ),
    },
    "pubsub/tracker/delta_generation_test": {
        "L26 generations": _presence(
            "generations", "test_the_smallest_generation_that_reaches_back_far_enough_is_the_answer"
        ),
        "L89 does not include non-contiguous deltas": _presence(
            "generations", "test_a_gap_starts_the_generations_again"
        ),
        "L102 remove_down_replicas": _presence(
            "generations", "test_a_forgotten_node_has_no_changes"
        ),
        "L113 whole state is extracted if there are no deltas": _presence(
            "state", "test_a_removal_that_was_missed_is_found_in_the_whole_part"
        ),
        "L125 delta is extracted for the first delta with dominating clocks": _presence(
            "state", "test_recent_changes_are_the_answer_if_they_are_enough"
        ),
        "L136 an empty delta is not extracted": _presence(
            "generations", "test_a_node_that_has_everything_gets_nothing"
        ),
        "L157 delta that isn't dominating on common set of replicas is not extracted": _presence(
            "generations", "test_changes_of_another_incarnation_are_no_answer"
        ),
    },
    "pubsub/tracker/shard_test": {
        "L5 validates down_period": _presence(
            "presence", "test_down_periods_are_checked_against_each_other"
        ),
        "L11 validates permdown_period": _presence(
            "presence", "test_a_permanent_down_period_is_longer_than_a_down_period"
        ),
    },
    "pubsub/tracker/pool_test": {
        "L14 pool <1|2|8|512>: A track/5 call results in the id being tracked": _presence(
            "presence", "test_a_tracked_key_is_listed_at_once_with_its_metadata_and_a_ref"
        ),
        "L23 pool <1|2|8|512>: Track/5 results in all ids being tracked": _presence(
            "presence", "test_untrack_removes_one_key_and_untrack_all_the_rest"
        ),
        "L38 pool <1|2|8|512>: Untrack/4 results in all ids being untracked": _presence(
            "presence", "test_untrack_removes_one_key_and_untrack_all_the_rest"
        ),
        "L52 pool <1|2|8|512>: Untrack/2 results in all ids being untracked": _presence(
            "presence", "test_untrack_removes_one_key_and_untrack_all_the_rest"
        ),
        "L66 pool <1|2|8|512>: Update/5 updates a given trackees metas": _presence(
            "presence", "test_an_update_replaces_the_metadata_and_names_the_ref_before"
        ),
        "L91 pool <1|2|8|512>: Update/5 applies fun to given trackees metas": _presence(
            "presence", "test_an_update_can_be_a_function_of_the_present_metadata"
        ),
        "L118 pool <1|2|8|512>: Graceful_permdown/2 results in all ids being untracked": _presence(
            "nodes", "test_a_node_that_stops_takes_its_presences_with_it_at_once"
        ),
    },
    "pubsub/tracker/shard_replication_test": {
        "L24 heartbeats": _presence(
            "tracker", "test_a_node_that_has_nothing_to_say_sends_heartbeats_at_its_interval"
        ),
        "L33 gossip from unseen node triggers nodeup and transfer request": _presence(
            "tracker",
            "test_a_new_node_is_answered_by_a_heartbeat_and_asks_one_node_for_everything",
        ),
        "L54 requests for transfer collapses clocks": _presence(
            "tracker",
            "test_a_new_node_is_answered_by_a_heartbeat_and_asks_one_node_for_everything",
        ),
        "L99 old pids from a node are permdowned when the node comes back up": _presence(
            "nodes", "test_a_restarted_node_replaces_its_former_presences"
        ),
        "L131 tempdowns with nodeups of new vsn, and permdowns": _presence(
            "tracker",
            "test_a_node_that_is_down_comes_back_as_a_new_run_and_is_forgotten_in_the_end",
        ),
        "L188 node detects and locally broadcasts presence_join/leave": _presence(
            "nodes", "test_the_end_of_an_owner_is_a_leave_everywhere"
        ),
        "L231 detects nodedown and locally broadcasts leaves": _presence(
            "tracker", "test_clients_are_told_of_everybody_who_leaves_with_a_silent_node"
        ),
        "L261 untrack with no tracked topic is a noop": _presence(
            "presence", "test_untracking_nobody_does_nothing"
        ),
        "L266 untrack with topic": _presence(
            "presence", "test_untrack_removes_one_key_and_untrack_all_the_rest"
        ),
        "L282 untrack from all topics": _presence(
            "presence", "test_untrack_removes_one_key_and_untrack_all_the_rest"
        ),
        "L296 updating presence sends join/leave and phx_ref_prev": _presence(
            "presence", "test_an_update_replaces_the_metadata_and_names_the_ref_before"
        ),
        "L307 updating presence sends join/leave and phx_ref_prev with profer diffs if function for "
        "update used": _presence(
            "presence", "test_an_update_by_a_function_sends_both_sides_and_the_ref_before"
        ),
        "L318 updating with no prior presence": _presence(
            "presence", "test_an_update_of_nobody_is_an_error"
        ),
        "L322 duplicate tracking": _presence(
            "presence",
            "test_the_same_metadata_again_changes_nothing_and_other_metadata_is_an_error",
        ),
        "L335 graceful exits with permdown": _presence(
            "nodes", "test_a_node_that_stops_takes_its_presences_with_it_at_once"
        ),
        "L354 rolling node update": _presence(
            "nodes", "test_a_rolling_replacement_of_all_nodes_loses_nobody_with_a_grace"
        ),
        "L393 handle_info callback with bad return": _NO_OWN_MESSAGES,
        "L400 handle_info callback with valid return": _NO_OWN_MESSAGES,
    },
}
