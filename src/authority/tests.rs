mod ambient;
mod delegate;
mod limits;
mod narrow;
mod registry;
mod surviving;
mod tasks;
