{{/* Whether this release installs a definition: (dict "root" $ "name" NAME). What another release or a person has installed is left alone. */}}
{{- define "teleport.installs" -}}
{{- if and .root.Values.crds.enabled .root.Values.auth.enabled -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- $owner := dig "metadata" "annotations" (dict) (default (dict) $there) -}}
{{- if not $there -}}
true
{{- else if and (eq (get $owner "meta.helm.sh/release-name") .root.Release.Name) (eq (get $owner "meta.helm.sh/release-namespace") .root.Release.Namespace) -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "teleport.crdMetadata" -}}
labels:
  {{- include "teleport.labels" (dict "root" . "name" "operator") | nindent 2 }}
annotations:
  # With the definitions, all that was declared would be deleted.
  helm.sh/resource-policy: keep
  {{- with .Values.commonAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
