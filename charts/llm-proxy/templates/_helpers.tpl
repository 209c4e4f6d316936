{{/* Names, labels and what several templates say alike. */}}

{{- define "llm-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{/* A Service has this name, and no Service's has a dot, which a release's may have. */}}
{{- define "llm-proxy.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "llm-proxy.name" .) .Release.Name }}
{{- .Release.Name | replace "." "-" | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "llm-proxy.name" .) | replace "." "-" | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "llm-proxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llm-proxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "llm-proxy.labels" -}}
{{ include "llm-proxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: llm-proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "llm-proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "llm-proxy.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "llm-proxy.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{/* The namespaces that are watched, as a JSON list; empty for all of them. */}}
{{- define "llm-proxy.watched" -}}
{{- if eq .Values.rbac.scope "Namespaced" -}}
{{ default (list .Release.Namespace) .Values.watchNamespaces | sortAlpha | uniq | toJson }}
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* What the operator may do in a namespace that it watches: what the tests run it with (tests/src/cluster/rbac.yaml), and nothing else. */}}
{{- define "llm-proxy.rules" -}}
- apiGroups: [llm-proxy.dev]
  resources: [proxyconfigs, llmprojects, witheringtokens]
  verbs: [list, watch]
- apiGroups: [llm-proxy.dev]
  resources: [proxyconfigs/status, llmprojects/status, witheringtokens/status]
  verbs: [patch]
# Secrets are listed and watched as metadata only, but whoever may do that may read them all: Kubernetes knows no narrower right.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Why the pods of a fleet do not come up: asked for only while its Deployment is not as wanted.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* What no schema can say in a sentence. */}}
{{- define "llm-proxy.validate" -}}
{{- if not (regexMatch "^[a-z]" (include "llm-proxy.fullname" .)) }}
{{- fail (printf "%s begins with a digit, which no Service's name may: set fullnameOverride, or give the release another name" (include "llm-proxy.fullname" .)) }}
{{- end }}
{{- if eq .Values.rbac.scope "Namespaced" }}
{{- if not .Values.clusterID }}
{{- fail "rbac.scope Namespaced needs clusterID: a name for this cluster that never changes and that no other cluster on the same databases has" }}
{{- end }}
{{- else if .Values.watchNamespaces }}
{{- fail "watchNamespaces needs rbac.scope: Namespaced" }}
{{- else }}
{{- include "llm-proxy.validate.alone" . }}
{{- end }}
{{- if .Values.defaultProxy.enabled }}
{{- if not (and .Values.defaultProxy.spec.database .Values.defaultProxy.spec.providers) }}
{{- fail "defaultProxy.enabled needs defaultProxy.spec.database and defaultProxy.spec.providers: see examples/fleet-postgres/proxy.yaml" }}
{{- end }}
{{- if and (eq .Values.rbac.scope "Namespaced") (not (has .Release.Namespace (include "llm-proxy.watched" . | fromJsonArray))) }}
{{- fail (printf "defaultProxy stands in the release's namespace %s, which watchNamespaces does not list: add it" .Release.Namespace) }}
{{- end }}
{{- include "llm-proxy.validate.definitions" . }}
{{- end }}
{{- end }}

{{/*
Two operators that watch every namespace undo each other's work: with different images they would replace every fleet's pods for ever. Helm gives its
releases' names to what it has installed; without a cluster (template, lint) it knows of none.
*/}}
{{- define "llm-proxy.validate.alone" -}}
{{- if .Values.rbac.create }}
{{- range (lookup "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" "" "").items }}
{{- $labels := default dict .metadata.labels }}
{{- $by := default dict .metadata.annotations }}
{{- $release := index $by "meta.helm.sh/release-name" | default "" }}
{{- $namespace := index $by "meta.helm.sh/release-namespace" | default "" }}
{{- if and (eq (index $labels "app.kubernetes.io/part-of" | default "") "llm-proxy") (ne $release "") }}
{{- if or (ne $release $.Release.Name) (ne $namespace $.Release.Namespace) }}
{{- fail (printf "release %s in namespace %s watches every namespace already: upgrade or uninstall that one, or use rbac.scope: Namespaced in both" $release $namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
A fleet cannot be asked for where its kind is not defined. Helm reads what the API server knows after it has put crds/ there, and without a cluster
(template, lint) it knows nothing of ours: so the account that every namespace has tells whether there is a cluster. Who makes our ServiceAccount may
read that one. In a namespace that is only just to be made there is none, and the words are Helm's own.
*/}}
{{- define "llm-proxy.validate.definitions" -}}
{{- if and .Values.serviceAccount.create (not (.Capabilities.APIVersions.Has "llm-proxy.dev/v1alpha1")) }}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "default" }}
{{- fail "defaultProxy.enabled needs the kind ProxyConfig, which this cluster does not define: install without --skip-crds, or the chart llm-proxy-crds first" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The name of the first provider of the default fleet that answers by itself; empty if there is none. */}}
{{- define "llm-proxy.echo" -}}
{{- $echo := "" }}
{{- if .Values.defaultProxy.enabled }}
{{- range .Values.defaultProxy.spec.providers }}
{{- if and (not $echo) (eq (.api | toString) "Echo") }}{{ $echo = .name }}{{ end }}
{{- end }}
{{- end }}
{{- $echo }}
{{- end }}
