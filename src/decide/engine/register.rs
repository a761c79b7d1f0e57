//! The register VM, with what it would swallow made to end the evaluation.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use regorus::{
    CompiledPolicy, Value,
    languages::rego::compiler::Compiler,
    rvm::{Program, RegoVM, vm::VmError},
    utils::limits::ExecutionTimerConfig,
};

use super::builtins;

/// A program and its data.
#[derive(Debug)]
pub(super) struct Compiled {
    /// Tells a thread's machine whether it has this program loaded.
    number: u64,
    program: Arc<Program>,
    data: Value,
}

/// Why an evaluation has no value.
#[derive(Debug)]
pub(super) enum Failed {
    /// Over its time, by a clock that also runs while the thread waits.
    Time,
    Other(String),
}

thread_local! {
    /// One machine a thread: it keeps its registers between evaluations.
    static MACHINE: RefCell<Option<(u64, RegoVM)>> = const { RefCell::new(None) };
}

impl Compiled {
    pub(super) fn new(policy: &CompiledPolicy, data: Value, entry: &str) -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let program = Compiler::compile_from_policy(policy, &[entry]).map_err(|e| e.to_string())?;
        let mut program = Arc::unwrap_or_clone(program);
        super::harden::harden(&mut program)?;
        program.check_rule_data_conflicts(&data).map_err(|e| e.to_string())?;
        Ok(Self { number: NUMBER.fetch_add(1, Ordering::Relaxed), program: Arc::new(program), data })
    }

    pub(super) fn evaluate(&self, input: Value, timer: ExecutionTimerConfig, instructions: usize) -> Result<Value, Failed> {
        let result = MACHINE.with(|cell| {
            // Not re-entered: no builtin evaluates a policy.
            let Ok(mut machine) = cell.try_borrow_mut() else { return Err(Failed::Other("the machine is in use".to_owned())) };
            let vm = match &mut *machine {
                Some((number, vm)) if *number == self.number => vm,
                other => &mut other.insert((self.number, self.machine(instructions)?)).1,
            };
            vm.set_execution_timer_config(Some(timer));
            vm.set_input(input);
            let result = vm.execute_entry_point_by_index(0).map_err(|e| self.failed(&e));
            if result.is_err() {
                // A failed evaluation leaves its stacks behind.
                *machine = None;
            }
            result
        });
        let failure = builtins::take_failure();
        result.map_err(|failed| failure.map_or(failed, Failed::Other))
    }

    fn machine(&self, instructions: usize) -> Result<RegoVM, Failed> {
        let mut vm = RegoVM::new();
        vm.load_program(self.program.clone());
        vm.set_max_instructions(instructions);
        // The wrapped builtins are strict on their own. The VM's own strictness would make an
        // ordering of two types `undefined`, where Rego orders them.
        vm.set_strict_builtin_errors(false);
        vm.set_data(self.data.clone()).map_err(|e| Failed::Other(e.to_string()))?;
        Ok(vm)
    }

    fn failed(&self, error: &VmError) -> Failed {
        match error {
            VmError::TimeLimitExceeded { .. } => Failed::Time,
            VmError::InstructionLimitExceeded { limit, .. } => Failed::Other(format!("the policy takes more than {limit} instructions")),
            other => Failed::Other(other.to_string()),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("the policy takes longer than `limits.decision`"),
            Self::Other(why) => f.write_str(why),
        }
    }
}
