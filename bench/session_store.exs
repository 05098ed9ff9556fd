# The baseline: a session store in the usual BEAM design, one ETS table read directly by callers and
# one GenServer that owns every write and monitors every agent. `bench/beam.py` runs it and reads
# what it prints; it knows nothing of the Python side.
#
#   elixir --erl "+P 4000000" bench/session_store.exs SESSIONS TENANTS [--json]
#
# It prints one figure a line, or with --json all of them as one JSON object. Times are in
# nanoseconds an operation, memory in bytes a session, agents apart.
defmodule Baseline.SessionStore do
  use GenServer
  @table :baseline_sessions

  def start_link(_ \\ []), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)
  def create(id, pid, attrs), do: GenServer.call(__MODULE__, {:create, id, pid, attrs})
  def delete(id), do: GenServer.call(__MODULE__, {:delete, id})
  def count, do: :ets.info(@table, :size)

  def get(id) do
    case :ets.lookup(@table, id) do
      [{_, meta}] -> {:ok, meta}
      [] -> {:error, :not_found}
    end
  end

  def list_by_tenant(t), do: Enum.filter(:ets.tab2list(@table), fn {_, m} -> m.tenant_id == t end)

  def list_by_tenant_select(t) do
    :ets.select(@table, [{{:_, %{tenant_id: t}}, [], [:"$_"]}])
  end

  def init(_) do
    :ets.new(@table, [:named_table, :set, :public, read_concurrency: true])
    {:ok, %{}}
  end

  def handle_call({:create, id, pid, attrs}, _from, refs) do
    ref = Process.monitor(pid)

    meta = %{
      pid: pid,
      api_key: attrs[:api_key],
      tenant_id: attrs[:tenant_id] || "default",
      monitor_ref: ref,
      created_at: System.system_time(:millisecond),
      blueprint: nil,
      model: attrs[:model]
    }

    if :ets.insert_new(@table, {id, meta}) do
      {:reply, {:ok, id}, Map.put(refs, ref, id)}
    else
      Process.demonitor(ref, [:flush])
      {:reply, {:error, :already_exists}, refs}
    end
  end

  def handle_call({:delete, id}, _from, refs) do
    refs =
      case :ets.take(@table, id) do
        [{_, m}] ->
          Process.demonitor(m.monitor_ref, [:flush])
          Map.delete(refs, m.monitor_ref)

        [] ->
          refs
      end

    {:reply, :ok, refs}
  end

  def handle_info({:DOWN, ref, :process, _, _}, refs) do
    case Map.pop(refs, ref) do
      {nil, refs} ->
        {:noreply, refs}

      {id, refs} ->
        :ets.delete(@table, id)
        {:noreply, refs}
    end
  end
end

defmodule Baseline.Bench do
  alias Baseline.SessionStore, as: S

  # A full-table scan of a million entries takes more than a second: fewer of them there.
  @scanned 2_000_000
  @passes 5
  @killed_singly 1000
  @ended_at_once 100_000

  def run(n, tenants) do
    {:ok, _} = S.start_link()
    ids = for i <- 1..n, do: "session-#{i}"
    agents = spawn_agents(n)

    List.flatten([
      sessions: n,
      tenants: tenants,
      otp: List.to_integer(:erlang.system_info(:otp_release)),
      create: creating(ids, agents, tenants),
      get_ns: getting(ids),
      list: listing(n, "tenant-#{min(7, tenants - 1)}"),
      delete_ns: deleting(Enum.take(ids, div(n, 2))),
      exit: one_by_one(Enum.zip(ids, agents) |> Enum.drop(div(n, 2)) |> Enum.take(@killed_singly)),
      left: ending_what_is_left(Enum.drop(agents, div(n, 2) + @killed_singly)),
      mass: all_at_once(Enum.take(ids, @ended_at_once), tenants)
    ])
    |> Enum.flat_map(fn
      {_, figures} when is_list(figures) -> figures
      figure -> [figure]
    end)
  end

  defp spawn_agents(n), do: for(_ <- 1..n, do: spawn(fn -> receive do :stop -> :ok end end))

  # The runner's own garbage (the zipped lists) is no part of the store: collected on both sides.
  defp creating(ids, agents, tenants) do
    :erlang.garbage_collect()
    {memory, resident} = {:erlang.memory(:total), resident()}
    ns = create_all(ids, agents, tenants)
    with_garbage = :erlang.memory(:total) - memory
    :erlang.garbage_collect()

    [
      create_ns: ns,
      memory_bytes: (:erlang.memory(:total) - memory) / length(ids),
      memory_with_runner_garbage_bytes: with_garbage / length(ids),
      resident_bytes: (resident() - resident) / length(ids)
    ]
  end

  defp create_all(ids, agents, tenants) do
    {us, _} =
      :timer.tc(fn ->
        Enum.zip(ids, agents)
        |> Enum.with_index()
        |> Enum.each(fn {{id, pid}, i} ->
          S.create(id, pid,
            api_key: "key-#{rem(i, tenants)}",
            tenant_id: "tenant-#{rem(i, tenants)}",
            model: "openai:gpt-5"
          )
        end)
      end)

    us * 1000 / length(ids)
  end

  defp getting(ids) do
    Enum.min(for _ <- 1..@passes, do: ns_each(ids, &S.get/1))
  end

  defp deleting(ids), do: ns_each(ids, &S.delete/1)

  defp ns_each(ids, verb) do
    {us, _} = :timer.tc(fn -> Enum.each(ids, verb) end)
    us * 1000 / length(ids)
  end

  defp listing(n, tenant) do
    reps = min(20, max(2, div(@scanned, n)))
    {filter_us, _} = :timer.tc(fn -> for _ <- 1..reps, do: S.list_by_tenant(tenant) end)
    {select_us, _} = :timer.tc(fn -> for _ <- 1..reps, do: S.list_by_tenant_select(tenant) end)

    [
      listed: length(S.list_by_tenant_select(tenant)),
      list_filter_ns: filter_us * 1000 / reps,
      list_select_ns: select_us * 1000 / reps
    ]
  end

  # One agent dies; spin until its entry is absent.
  defp one_by_one([]), do: []

  defp one_by_one(entries) do
    taken = entries |> Enum.map(&until_gone/1) |> Enum.sort()
    count = length(taken)
    [exit_p50_ns: Enum.at(taken, div(count, 2)), exit_p99_ns: Enum.at(taken, div(count * 99, 100))]
  end

  defp until_gone({id, pid}) do
    start = System.monotonic_time(:nanosecond)
    Process.exit(pid, :kill)
    spin(fn -> match?({:ok, _}, S.get(id)) end)
    System.monotonic_time(:nanosecond) - start
  end

  defp ending_what_is_left([]), do: []

  defp ending_what_is_left(agents) do
    [left: length(agents), exit_of_left_ns: end_all(agents)]
  end

  # Registered afresh in an empty table, then all ending at once.
  defp all_at_once(ids, tenants) do
    agents = spawn_agents(length(ids))
    create_all(ids, agents, tenants)
    [ended_at_once: length(ids), exit_ns: end_all(agents)]
  end

  defp end_all(agents) do
    count = S.count()
    start = System.monotonic_time(:microsecond)
    Enum.each(agents, &send(&1, :stop))
    spin(fn -> S.count() > 0 end)
    (System.monotonic_time(:microsecond) - start) * 1000 / count
  end

  defp spin(pending?), do: if(pending?.(), do: spin(pending?))

  # Linux only; elsewhere there is nothing to read and the figure is zero.
  defp resident do
    with {:ok, text} <- File.read("/proc/self/status"),
         [_, kilobytes] <- Regex.run(~r/VmRSS:\s+(\d+) kB/, text) do
      String.to_integer(kilobytes) * 1024
    else
      _ -> 0
    end
  end
end

{options, numbers, _} = OptionParser.parse(System.argv(), strict: [json: :boolean])
[n, tenants] = Enum.map(numbers, &String.to_integer/1)
figures = Baseline.Bench.run(n, tenants)

if options[:json] do
  IO.puts("{" <> Enum.map_join(figures, ", ", fn {name, value} -> ~s("#{name}": #{value}) end) <> "}")
else
  Enum.each(figures, fn {name, value} -> IO.puts("#{name} #{value}") end)
end
