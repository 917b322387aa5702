"""The portable cases of OTP's suites: those about processes, servers and supervisors, 129 of all 232.

The other cases are about the virtual machine, about distribution, or about a feature that Ashtree has in another form.
The tables have them too, and tests cover some of them.
"""

TOTAL = 232
PORTABLE_TOTAL = 129
COVERED_AT_LEAST = 120

PORTABLE_COUNTS = {
    "supervisor_SUITE": 57,
    "gen_server_SUITE": 22,
    "proc_lib_SUITE": 6,
    "sys_SUITE": 6,
    "process_SUITE": 12,
    "monitor_SUITE": 14,
    "signal_SUITE": 8,
    "erl_link_SUITE": 4,
}

PORTABLE = {
    "gen_server_SUITE": """
        start stop1 stop2 stop3 stop4 stop7 crash call cast info get_state replace_state otp_7669
        call_with_huge_message_queue undef_handle_call undef_handle_cast undef_handle_info undef_init
        undef_terminate1 undef_terminate2 undef_in_terminate undef_in_handle_info""",
    "proc_lib_SUITE": "crash stacktrace sync_start_nolink sync_start_link init_dont_hang stop",
    "sys_SUITE": "log stats trace suspend install special_process",
    "process_SUITE": """
        t_exit_1 t_exit_2_other t_exit_2_other_normal self_exit normal_suicide_exit
        abnormal_suicide_exit t_exit_2_catch exit_and_timeout exit_twice trap_exit_badarg
        trap_exit_badarg_in_bif bad_register""",
    "monitor_SUITE": """
        case_1 case_1a case_2 case_2a mon_e_1 demon_e_1 demon_1 demon_2 demonitor_flush mon_1
        local_remove_monitor list_cleanup mixer named_down""",
    "signal_SUITE": """
        xm_sig_order kill2killed exit_before_pending_exit pending_exit_unlink_process
        pending_exit_trap_exit pending_exit_receive pending_exit_exit
        pending_exit_is_process_alive""",
    "erl_link_SUITE": "links process_monitors otp_5772_link otp_5772_monitor",
    "supervisor_SUITE": """
        sup_start_normal sup_start_ignore_init sup_start_ignore_child
        sup_start_ignore_temporary_child sup_start_ignore_temporary_child_start_child
        sup_start_ignore_temporary_child_start_child_simple
        sup_start_ignore_permanent_child_start_child_simple sup_start_error_return sup_start_fail
        sup_start_child_returns_error sup_start_restart_child_returns_error
        sup_start_child_returns_error_simple sup_start_map sup_start_map_simple
        sup_start_map_faulty_specs sup_stop_infinity sup_stop_timeout sup_stop_brutal_kill
        child_adm child_adm_simple child_specs extra_return sup_flags permanent_normal
        permanent_shutdown permanent_abnormal transient_normal transient_shutdown
        transient_abnormal temporary_normal temporary_shutdown temporary_abnormal
        temporary_bystander multiple_restarts one_for_one one_for_one_escalation one_for_all
        one_for_all_escalation one_for_all_other_child_fails_restart rest_for_one
        rest_for_one_escalation rest_for_one_other_child_fails_restart simple_one_for_one
        simple_one_for_one_shutdown simple_one_for_one_extra simple_one_for_one_escalation
        child_unlink tree count_children count_children_supervisor count_restarting_children
        hanging_restart_loop hanging_restart_loop_rest_for_one hanging_restart_loop_simple
        order_of_children scale_start_stop_many_children
        simple_one_for_one_scale_many_temporary_children""",
}
