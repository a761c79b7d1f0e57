//! Makes a compiled program mean what Rego means, where the register VM would go on in silence.
//!
//! The compiler forgets to end a body when `x := …` is undefined, lets a function run on
//! undefined arguments, and puts undefined elements into array comprehensions. The guards that it
//! forgets are put in here. Arithmetic and `in` become builtin calls, which are guarded.

use regorus::{
    rvm::{
        Instruction, Program,
        instructions::{BuiltinCallParams, ComprehensionMode, GuardMode},
        program::BuiltinInfo,
    },
    unstable::BuiltinFcn,
};

use super::builtins::{self, Op};

/// # Errors
/// When the program is too large for it; the interpreter then runs the policy.
pub(super) fn harden(program: &mut Program) -> Result<(), String> {
    let mut guarded = Vec::with_capacity(program.builtin_info_table.len());
    for info in &program.builtin_info_table {
        guarded.push(builtins::guarded(&info.name).ok_or_else(|| format!("{} cannot be guarded", info.name))?);
    }
    program.resolved_builtins = guarded;
    replace_operators(program)?;
    insert_guards(program)?;
    program.validate_limits()
}

fn replace_operators(program: &mut Program) -> Result<(), String> {
    for at in 0..program.instructions.len() {
        let Some((op, dest, left, right)) = program.instructions.get(at).and_then(operation) else { continue };
        let builtin_index = operator(program, op)?;
        let mut args = [0; 8];
        args[0] = left;
        args[1] = right;
        let params = &mut program.instruction_data.builtin_call_params;
        let params_index = u16::try_from(params.len()).map_err(|_| "the policy has too many operators".to_owned())?;
        params.push(BuiltinCallParams { dest, builtin_index, num_args: 2, args });
        if let Some(instruction) = program.instructions.get_mut(at) {
            *instruction = Instruction::BuiltinCall { params_index };
        }
    }
    Ok(())
}

fn operation(instruction: &Instruction) -> Option<(Op, u8, u8, u8)> {
    match *instruction {
        Instruction::Add { dest, left, right } => Some((Op::Add, dest, left, right)),
        Instruction::Sub { dest, left, right } => Some((Op::Sub, dest, left, right)),
        Instruction::Mul { dest, left, right } => Some((Op::Mul, dest, left, right)),
        Instruction::Div { dest, left, right } => Some((Op::Div, dest, left, right)),
        Instruction::Mod { dest, left, right } => Some((Op::Rem, dest, left, right)),
        Instruction::Contains { dest, collection, value } => Some((Op::In, dest, collection, value)),
        _ => None,
    }
}

/// The place of an operator in the program's table of builtins.
fn operator(program: &mut Program, op: Op) -> Result<u16, String> {
    let name = format!("remit.{op:?}");
    let at = program.builtin_info_table.iter().position(|info| info.name == name).unwrap_or_else(|| {
        let builtin: BuiltinFcn = builtins::operator(op);
        program.builtin_info_table.push(BuiltinInfo { name, num_args: 2 });
        program.resolved_builtins.push(builtin);
        program.resolved_builtins.len() - 1
    });
    u16::try_from(at).map_err(|_| "the policy has too many builtins".to_owned())
}

/// Guards of one instruction: those that come before it, and those that come after.
type Guards = (Vec<u8>, Vec<u8>);

fn insert_guards(program: &mut Program) -> Result<(), String> {
    let arity = |rule_index: u16| {
        let info = program.rule_infos.get(usize::from(rule_index)).and_then(|r| r.function_info.as_ref());
        info.map_or(0, |f| u8::try_from(f.num_params).unwrap_or(u8::MAX))
    };
    let mut modes = Vec::new();
    let guards: Vec<Guards> = program
        .instructions
        .iter()
        .map(|instruction| match *instruction {
            Instruction::Move { dest, .. } => (Vec::new(), vec![dest]),
            // A function's arguments are in the registers after the first.
            Instruction::RuleInit { rule_index, .. } => (Vec::new(), (1..=arity(rule_index)).collect()),
            Instruction::ComprehensionBegin { params_index } => {
                let params = program.instruction_data.comprehension_begin_params.get(usize::from(params_index));
                modes.push(params.map(|p| p.mode.clone()));
                (Vec::new(), Vec::new())
            }
            Instruction::ComprehensionYield { value_reg, .. } if is_array(modes.last()) => (vec![value_reg], Vec::new()),
            Instruction::ComprehensionEnd {} => {
                modes.pop();
                (Vec::new(), Vec::new())
            }
            _ => (Vec::new(), Vec::new()),
        })
        .collect();
    let places = places(&guards);
    let guard = |register: &u8| Instruction::Guard { register: *register, mode: GuardMode::NotUndefined };
    let old = std::mem::take(&mut program.instructions);
    let spans = std::mem::take(&mut program.instruction_spans);
    for ((instruction, span), (before, after)) in old.into_iter().zip(spans.into_iter().chain(std::iter::repeat(None))).zip(&guards) {
        program.instructions.extend(before.iter().map(guard));
        program.instructions.push(instruction);
        program.instructions.extend(after.iter().map(guard));
        program.instruction_spans.resize(program.instructions.len(), span);
    }
    relocate(program, &places)
}

fn is_array(mode: Option<&Option<ComprehensionMode>>) -> bool {
    matches!(mode, Some(Some(ComprehensionMode::Array)))
}

/// Where each instruction, with the guards before it, comes to stand; and where the end does.
fn places(guards: &[Guards]) -> Vec<usize> {
    let mut at = 0;
    let mut places = Vec::with_capacity(guards.len() + 1);
    for (before, after) in guards {
        places.push(at);
        at += before.len() + 1 + after.len();
    }
    places.push(at);
    places
}

fn relocate(program: &mut Program, places: &[usize]) -> Result<(), String> {
    let moved = |at: usize| places.get(at).copied().ok_or_else(|| "the program jumps out of itself".to_owned());
    let short = |at: u16| moved(usize::from(at)).and_then(|p| u16::try_from(p).map_err(|_| "the program is too long".to_owned()));
    let long = |at: u32| moved(at as usize).and_then(|p| u32::try_from(p).map_err(|_| "the program is too long".to_owned()));
    for instruction in &mut program.instructions {
        match instruction {
            Instruction::LoopNext { body_start, loop_end } => {
                *body_start = short(*body_start)?;
                *loop_end = short(*loop_end)?;
            }
            Instruction::AnyOfNext { end_pc, .. } => *end_pc = short(*end_pc)?,
            Instruction::LogicalBlockStart { .. } | Instruction::AllOfNext { .. } | Instruction::HostAwait { .. } => {
                return Err("the program holds an instruction that no Rego compiles to".to_owned());
            }
            _ => {}
        }
    }
    for params in &mut program.instruction_data.loop_params {
        params.body_start = short(params.body_start)?;
        params.loop_end = short(params.loop_end)?;
    }
    for params in &mut program.instruction_data.comprehension_begin_params {
        params.body_start = short(params.body_start)?;
        params.comprehension_end = short(params.comprehension_end)?;
    }
    for rule in &mut program.rule_infos {
        let mut definitions = Vec::clone(&rule.definitions);
        for entry in definitions.iter_mut().flatten().chain(rule.destructuring_blocks.iter_mut().flatten()) {
            *entry = long(*entry)?;
        }
        rule.definitions = definitions.into();
    }
    for entry in program.entry_points.values_mut() {
        *entry = moved(*entry)?;
    }
    program.main_entry_point = long(program.main_entry_point)?;
    Ok(())
}
