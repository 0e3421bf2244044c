-- The status follows kstatus: observedGeneration, Reconciling and Stalled. All conditions and reasons:
-- https://github.com/llmendpoint/llmendpoint/blob/main/docs/conditions.md
local health = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.conditions == nil then
  return health
end

-- Only conditions that judge the present spec count: a condition of an older one may be out of date.
local generation = obj.metadata.generation
local current = {}
local ready = nil
for _, condition in ipairs(obj.status.conditions) do
  if condition.observedGeneration == generation then
    current[condition.type] = condition
  end
  if condition.type == "Ready" then
    ready = condition
  end
end

local function is(type, status)
  return current[type] ~= nil and current[type].status == status
end

-- Nothing changes until a person acts, for example because the spec is invalid or a model does not exist.
if is("Stalled", "True") then
  health.status = "Degraded"
  health.message = current["Stalled"].message
  return health
end

-- A child was refused, or a replica fails. The other reasons can pass without a person: replicas start, a node is added,
-- an evicted pod is replaced, or the operator tries again.
local passing = {
  ReplicasUnavailable = true,
  Unschedulable = true,
  VolumeNotReady = true,
  Evicted = true,
  Conflict = true,
  APIServerUnavailable = true,
}
if is("Degraded", "True") and not passing[current["Degraded"].reason] then
  health.status = "Degraded"
  health.message = current["Degraded"].message
  return health
end

-- Changes wait until a person removes the annotation llmendpoint.dev/paused.
if is("Reconciling", "True") and current["Reconciling"].reason == "Paused" then
  health.status = "Suspended"
  health.message = current["Reconciling"].message
  return health
end

-- Ready and Degraded have more to say than Reconciling, for example how much of a model is pulled.
if is("Reconciling", "True") then
  local shown = current["Reconciling"]
  if is("Ready", "False") then
    shown = current["Ready"]
  elseif is("Degraded", "True") then
    shown = current["Degraded"]
  end
  health.message = shown.message
  return health
end

if obj.status.observedGeneration ~= generation then
  return health
end

-- An endpoint that is scaled to zero is as wanted, like a Deployment without replicas. Suspended would be wrong: it
-- holds a sync with several waves for ever (https://github.com/argoproj/argo-cd/issues/10600).
if is("Ready", "True") or (is("Reconciling", "False") and (ready == nil or ready.reason == "ScaledToZero")) then
  health.status = "Healthy"
  health.message = (ready or current["Reconciling"]).message
  return health
end

if ready ~= nil then
  health.message = ready.message
end
return health
